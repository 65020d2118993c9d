"""Where a run lies, and the way out where another one lies there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hybrid_jax.cli import evaluate, train, workdirs
from hybrid_jax.cli.common import Call
from hybrid_jax.config.files import load_config
from hybrid_jax.config.schema import Config
from hybrid_jax.errors import ConfigMismatch, UserError
from hybrid_jax.main import main
from hybrid_jax.runs.folder import RunFolder
from tests.sweeps.conftest import no_tiny_model  # noqa: F401

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = Path(__file__).parents[1] / "sweeps" / "tiny.py"
SMALL = (
    "--config.data.per_class=10",
    "--config.data.validation=0.1",
    "--config.train.batch_size=20",
    "--config.train.epochs=2",
    "--config.optim.warmup_epochs=1",
    "--config.train.eval_every=1",
    "--config.train.report=false",
)


def program(*args, folder):
    """The program as users without an installation start it."""
    return subprocess.run(
        [sys.executable, "-m", "hybrid_jax.main", *args],
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A folder with an experiment of a user's, and what was said when it was started.

    It brings a network of one block with it, so that little is compiled.
    """
    folder = tmp_path_factory.mktemp("my runs")
    (folder / "configs").mkdir()
    shutil.copy(TINY, folder / "configs" / "digits.py")
    done = program("--config=configs/digits.py", *SMALL, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def here(started, monkeypatch):
    monkeypatch.chdir(started[0])
    load_config("configs/digits.py", {})  # names its network in the table of models
    return started[0]


def test_a_config_is_all_that_a_run_needs(started):
    folder, said = started
    assert said.splitlines()[0] == "No --workdir given: using runs/digits"
    assert sorted(path.name for path in folder.iterdir()) == ["configs", "runs"]
    assert (folder / "runs" / "digits" / "checkpoints" / "9").is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config=configs/digits.py", *SMALL],
        ["train", "--config={here}/configs/digits.py", *SMALL],
        ["train", "--workdir=runs/digits"],
        ["--workdir", "runs/digits", "--config.train.eval_batch_size=99"],
    ],
    ids=["config", "absolute path", "workdir", "workdir and a free field"],
)
def test_it_is_resumed(arguments, here, capsys):
    words = [word.format(here=here) for word in arguments]
    assert main(["hybrid-jax", *words]) == 0
    out = capsys.readouterr().out
    assert "runs/digits is complete: nothing left to train" in out
    assert out.startswith("No --workdir given") is ("--config" in str(arguments[:2]))


def test_a_run_keeps_what_decides_its_results(here, capsys):
    code = main(["hybrid-jax", "train", "--workdir=runs/digits", "--config.seed=1"])
    assert code == 2
    said = capsys.readouterr().err
    assert "--config.seed is what the run of runs/digits was trained with" in said


def test_it_is_evaluated_by_its_config_too(here, capsys):
    config = "--config=configs/digits.py"
    assert main(["hybrid-jax", "evaluate", config, *SMALL]) == 0
    assert "No --workdir given: using runs/digits" in capsys.readouterr().out
    assert main(["hybrid-jax", "evaluate", config]) == 2
    said = capsys.readouterr().err
    assert said.endswith(
        "Evaluate that run with `hybrid-jax evaluate --workdir=runs/digits`\n"
    )


def test_another_config_is_told_how_to_resume_and_how_to_start_anew(here, capsys):
    """Both commands do so."""
    other = ("--config=configs/digits.py", *SMALL, "--config.seed=1")
    done = program(*other, folder=here)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "config.seed is 0 there and 1 here" in done.stderr
    resume, anew = re.findall("`(.+?)`", done.stderr)
    assert resume.endswith(" -m hybrid_jax.main train --workdir=runs/digits")
    assert anew.endswith(" --config.seed=1 --workdir=runs/digits-2")
    assert main(["hybrid-jax", *shlex.split(resume)[3:]]) == 0
    assert "runs/digits is complete" in capsys.readouterr().out
    subprocess.run(["bash", "-c", anew], check=True)
    stored = json.loads(Path("runs/digits-2/config.json").read_text())
    assert stored["seed"] == 1


@pytest.mark.parametrize(
    ("config", "workdir"),
    [
        ("digits.py", "runs/digits"),
        ("digits.py:astroformer_nano", "runs/digits-astroformer_nano"),
        ("digits.py:../up and/away", "runs/digits-..-up-and-away"),
        ("a:b.py:vit_tiny", "runs/a:b-vit_tiny"),
        ("my cells.v2.py", "runs/my cells.v2"),
    ],
)
def test_the_folder_of_a_config(config, workdir, tmp_path):
    path, dot, model = config.partition(".py")
    (tmp_path / f"{path}.py").touch()
    assert workdirs.default_workdir(f"{tmp_path}/{path}{dot}{model}") == workdir
    assert Path(workdir).parent.name == "runs"


def test_only_a_config_that_can_be_read_gets_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = f"--config={CONFIGS / 'digits.py'}"
    order = train.parse([config])
    assert (order.workdir, order.is_default_workdir) == ("runs/digits", True)
    order = train.parse([config, "--workdir=w"])
    assert (order.workdir, order.is_default_workdir) == ("w", False)
    for wrong in ([f"{config}:astroformer_9"], [f"{config}x"], [config, "--workdir="]):
        with pytest.raises(UserError):
            train.parse(wrong)
    assert not list(tmp_path.iterdir())


def test_weights_to_start_from_may_be_of_any_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = f"--config={CONFIGS / 'digits.py'}"
    start = [config, "--config.init_from=w"]
    assert train.parse(start).config.init_checkpoint == ""
    for checkpoint in ("best", "last", "120", "all"):
        order = train.parse([*start, f"--checkpoint={checkpoint}"])
        assert order.config.init_checkpoint == checkpoint
    with pytest.raises(UserError, match=r"give --config\.init_from=WORKDIR too"):
        train.parse([config, "--checkpoint=best"])
    with pytest.raises(UserError, match=r"is of the run in --config\.init_from"):
        train.parse(["--workdir=runs/any", "--checkpoint=best"])
    with pytest.raises(UserError, match="is for the images of --data"):
        evaluate.parse(["--workdir=runs/any", "--on-error=skip"])
    with pytest.raises(UserError, match=r"config\.init_checkpoint='newest' is not"):
        train.parse([*start, "--checkpoint=newest"])


def test_the_first_free_number_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert workdirs.next_free_workdir("runs/a") == "runs/a-2"
    for name in ("a", "a-2", "b-3"):
        Path("runs", name).mkdir(parents=True)
    Path("runs/a-3").symlink_to("nowhere")
    assert workdirs.next_free_workdir("runs/a") == "runs/a-4"
    assert workdirs.next_free_workdir("runs/a-2") == "runs/a-4"
    assert workdirs.next_free_workdir("runs/b-3") == "runs/b-3-2"  # no copy of a run b


@pytest.mark.parametrize(
    ("arguments", "anew"),
    [
        (["--workdir=w"], "x --workdir=w-2"),
        (["--workdir", "w", "--a=b c"], "x '--a=b c' --workdir=w-2"),
        (["-workdir=v", "--a", "--workdir=w"], "x --a --workdir=w-2"),
        (["--flagfile=f"], "x --flagfile=f --workdir=w-2"),
    ],
    ids=str,
)
def test_a_new_run_is_started_by_the_users_own_command(arguments, anew, tmp_path):
    error = ConfigMismatch(Path("w"), ["a"], epochs_differ=True)
    call = Call(("x",), "", arguments)
    told = str(workdirs.with_commands(error, call, "w", ["--process=1"]))
    resume, new, longer = re.findall("`(.+?)`", told)
    assert resume == "x train --workdir=w --process=1"
    assert (new, longer) == (anew, "--config.init_from=w")


def test_commands_keep_spaces_and_bytes_of_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"a  b\nc\xe9")
    with RunFolder(name) as folder:
        folder.create(Config(), {})
        (folder.checkpoints / "1").mkdir(parents=True)
        (folder.checkpoints / "1" / "manifest.json").touch()
    config = f"--config={CONFIGS / 'digits.py'}"
    assert main(["hybrid-jax", config, f"--workdir={name}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    quoted = r"$'--workdir=a  b\x0ac\xe9"
    assert f"`hybrid-jax train {quoted}'`" in said
    assert f"`hybrid-jax {config} {quoted}-2'`" in said


@pytest.mark.parametrize("name", ["runs", "runs/digits"])
def test_a_file_in_the_place_of_the_folder_is_told(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("mine")
    code = main(["hybrid-jax", f"--config={CONFIGS / 'digits.py'}"])
    assert code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(r"--workdir=runs/digits\b.* is a file; give a folder", said)
    assert Path(name).read_text() == "mine"


# Root may write anywhere, so it becomes somebody else first.
AS_NOBODY = """
import os, sys
import hybrid_jax.engine.fit
from hybrid_jax.main import main

if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
sys.exit(main(["hybrid-jax", *sys.argv[1:]]))
"""


def test_a_folder_in_which_nothing_can_be_made_is_told():
    with tempfile.TemporaryDirectory() as folder:  # not within pytest's, root's alone
        os.chmod(folder, 0o555)  # noqa: S103
        ended = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, f"--config={CONFIGS / 'digits.py'}"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 2
        assert ended.stderr == (
            "hybrid-jax: --workdir=runs/digits cannot be written to: you may not "
            "write to .; give a folder of yours\n"
        )
        assert not os.listdir(folder)
