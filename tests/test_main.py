"""Mistakes on the command line: one line, exit code 2, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_jax import config as configs
from hybrid_jax import main as cli
from hybrid_jax.errors import UserError
from hybrid_jax.evaluate import stored_config
from hybrid_jax.training.workdir import Workdir

DIGITS = str(Path(__file__).parents[1] / "configs" / "digits.py")


def run(monkeypatch, capsys, *args):
    argv = ["hybrid-jax", *map(str, args)]
    monkeypatch.setattr(sys, "argv", argv)  # where ml_collections looks for overrides
    monkeypatch.delitem(
        sys.modules, "config_config", raising=False
    )  # and what it keeps
    code = cli.main(argv)
    return code, capsys.readouterr()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--config.optim.learning_rte=1"], "learning_rate"),
        (["--config.optim.learning_rate=nan"], "config.optim.learning_rate=nan"),
        (["--config.optim.learning_rate=fast"], "config.optim.learning_rate=fast"),
        (["--config.train.batch_size=-64"], "config.train.batch_size=-64"),
        (["--config.train.batch_size=100000"], "leaves 1 steps"),
        (["--config.seed=2147483648"], "below 2**31"),
        (["--config.data.name=../x"], "a name such as digits"),
        (["--config.data.name=mnist:9.9.9"], "cannot be opened"),
        (["--config.model.stack=T-C-C-T"], "stage 1 is 16 channels wide"),
        (["--config.train.epochs=2.5"], "config.train.epochs=2.5"),
        (["--config.model.name=resnet50"], "coatnet_*"),
        (["--config.model.stack=C-C-C-X"], "of C, B, S, T, M"),
        (["--config.model.strides=2,2"], "five strides"),
        (["--config.data.name=digitz"], "did you mean 'digits'"),
        (["--config.data.image_size=12,12"], "each from 16"),
        (
            ["--config.model.strides=2,2,2,2,2"],
            "(1, 1, 1, 2, 2) would do",
        ),
        (["stray"], "stray argument 'stray'"),
        (["--epochs=3"], "epochs"),
        (["--mode=tran"], "train|eval"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_mistakes(args, said, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "run"
    code, out = run(
        monkeypatch, capsys, f"--config={DIGITS}", f"--workdir={workdir}", *args
    )
    assert code == 2
    assert out.err.startswith("hybrid-jax: ")
    assert out.err.count("\n") == 1
    assert said in out.err
    assert not workdir.exists()


def test_unknown_model_after_the_config(tmp_path, monkeypatch, capsys):
    code, out = run(
        monkeypatch, capsys, f"--config={DIGITS}:astroformer_9", "--workdir=x"
    )
    assert code == 2
    assert "config.model.name='astroformer_9' is not allowed" in out.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "--workdir is missing"),
        (["--workdir=x"], "--config is missing"),
        (["--workdir=x", "--config=nowhere.py"], "nowhere.py"),
        (["--workdir=x", "--config=/dev/null"], "get_config"),
        (["--workdir=x", "--mode=eval"], "holds no run"),
        (["--workdir=x", "--config.seed=1"], "--config is missing"),
        (["--workdir=gs://bucket/run", "--mode=eval"], "mount a bucket"),
        (["--workdir=s3://b/run", f"--config={DIGITS}"], "--workdir=s3://b/run is not"),
    ],
    ids=str,
)
def test_missing_things(args, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out = run(monkeypatch, capsys, *args)
    assert code == 2
    assert out.err.count("\n") == 1
    assert said in out.err
    assert not list(tmp_path.iterdir())


def test_evaluation_takes_free_fields_over_the_stored_config():
    argv = ["hybrid-jax", "--mode=eval", "--workdir=x"]
    there = ["--config.data.path=/there", "--config.train.eval_batch_size", "7"]
    command = cli.parse([*argv, *there])
    assert command.config is None
    assert command.changed == {"data.path": "/there", "train.eval_batch_size": 7}
    assert cli.parse(argv).changed == {}
    assert cli.parse([*argv, f"--config={DIGITS}", "--config.seed=3"]).changed == {}
    for field in ("--config.data.pth=/there", "--config.train.eval_batch_size=many"):
        with pytest.raises(UserError):
            cli.parse([*argv, field])


def test_evaluation_refuses_fields_that_the_run_was_trained_with(tmp_path):
    folder = Workdir(tmp_path)
    folder.create(configs.default(), {})
    changed = {"data.dir": "/there", "train.eval_batch_size": 7}
    config = configs.flatten(stored_config(folder, changed))
    assert config == folder.read_config() | changed
    with pytest.raises(UserError, match=r"^--config\.seed is what the run of "):
        stored_config(folder, changed | {"seed": 1})


def test_a_config_file_that_is_no_python(tmp_path, monkeypatch, capsys):
    path = tmp_path / "broken.py"
    path.write_text("def get_config(:\n")
    code, out = run(monkeypatch, capsys, f"--config={path}", "--workdir=x")
    assert code == 2
    assert out.err.count("\n") == 1
    assert "SyntaxError" in out.err


def test_workdir_that_is_a_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine"
    path.write_text("keep")
    code, out = run(monkeypatch, capsys, f"--config={DIGITS}", f"--workdir={path}")
    assert code == 2
    assert "is a file" in out.err
    assert path.read_text() == "keep"


def test_help_shows_commands_models_and_fields(monkeypatch, capsys):
    code, out = run(monkeypatch, capsys, "--help")
    assert code == 0
    for said in ("--mode=eval", "coatnet_4", "--config.optim.learning_rate", "[0.001]"):
        assert said in out.out


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_is_said_can_be_printed_in_any_encoding(encoding):
    say = (
        "import sys; from hybrid_jax import command, errors\n"
        "def run():\n"
        "    print('\\udce9 \\u2026', flush=True)\n"
        "    raise errors.UserError('no folder caf\\udce9 \\u2026')\n"
        "sys.exit(command.guarded(run))"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", say], env=environment, capture_output=True
    )
    dots = "\\u2026" if encoding == "ascii" else "…"
    assert done.returncode == 2
    assert done.stderr.decode() == f"hybrid-jax: no folder caf\\xe9 {dots}\n"
    assert done.stdout.decode() == f"\\udce9 {dots}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="settings of Linux's C library")
@pytest.mark.parametrize("own", ["", "glibc.malloc.check=0"])
def test_commands_start_anew_with_huge_pages_unless_a_user_chose_otherwise(own):
    show = (
        "import os, sys; from hybrid_jax import command;"
        "command.restart_with_huge_pages();"
        "print(os.environ['GLIBC_TUNABLES'], *sys.argv[1:])"
    )
    others = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", show, "a b", "--c=d"],
        env=others | ({"GLIBC_TUNABLES": own} if own else {}),
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{own or 'glibc.malloc.hugetlb=1'} a b --c=d\n", done.stderr
