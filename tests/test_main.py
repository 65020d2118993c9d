"""Mistakes on the command line: one line, exit code 2, nothing written."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_jax.cli import common, evaluate, flags, system_errors
from hybrid_jax.cli.options import SWITCH, Option
from hybrid_jax.config import resolve as configs
from hybrid_jax.config.field import as_typed
from hybrid_jax.config.schema import Config
from hybrid_jax.errors import UserError
from hybrid_jax.main import main
from hybrid_jax.runs.folder import RunFolder

DIGITS = str(Path(__file__).parents[1] / "configs" / "digits.py")


def run(capsys, *args):
    code = main(["hybrid-jax", *map(str, args)])
    return code, capsys.readouterr()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--config.optim.learning_rte=1"], "did you mean config.optim.learning_rate"),
        (["--config.batch_size=32"], "did you mean config.train.batch_size?"),
        (["--config.optim.lr=1"], "did you mean config.optim.learning_rate?"),
        (["--config.optim.qqq=1"], "config.optim has name, learning_rate, schedule"),
        (["--config.optimizer.clip_norm=1"], "did you mean config.optim.clip_norm?"),
        (
            ["--config.name=x"],
            "config.data.name or config.model.name or config.loss.name",
        ),
        (["--config.trian=3"], "config.trian does not exist, did you mean config.tra"),
        (["--config.qqq=3"], "config.qqq does not exist (see"),
        (["--config.=3"], "config. does not exist (see"),
        (["--config.data.group=(x{99999999999999})"], "config.data.group='(x{9999"),
        (["--config.data.test", "false"], "write --config.data.test=false"),
        (
            ["--config.train.steps=50", "--config.optim.warmup_steps=0"],
            "shorten it, with --config.optim.warmup_steps=5",
        ),
        (["--config.train=3"], "is a group of fields: give one of them, such as"),
        (["--config.seed.x=1"], "config.seed has no fields of its own"),
        (["--noconfig.seed"], "config.seed is neither true nor false"),
        (["--config.train.epochs=ten"], "config.train.epochs=ten is not allowed: a w"),
        (["--config.train.epochs="], "config.train.epochs='' is not allowed"),
        (["--config.compilation_cache=maybe"], "true or false"),
        (["--config.data.image_size=64"], "image_size=64 is not allowed: empty, or"),
        (["--config.data.image_size=64x64"], "pixels such as 64,64"),
        (["--config.data.image_size=(64,64"], "image_size=(64,64 is not allowed"),
        (["--config.data.image_size=64,a"], "image_size=64,a is not allowed"),
        (["--config.freeze=('a', 3)"], "a tuple of regular expressions"),
        (["--config.data.path", "--config.seed=1"], "--config.data.path has no value"),
        (["--config.data.path"], "--config.data.path has no value"),
        (["--flagfile=nowhere"], "--flagfile=nowhere cannot be read: No such file"),
        (["--flagfile=/"], "--flagfile=/ cannot be read: Is a directory"),
        (["--flagfile="], "--flagfile is empty"),
        (["--flagfile"], "--flagfile has no value"),
        ([f"--flagfile={sys.executable}"], "--flagfile holds no text"),
        (["--workdir=a\0b"], "--flagfile holds no text"),  # no other way leads there
        (["--helpxml"], "--helpxml does not exist"),
        (["--wrkdir=x"], "--wrkdir does not exist, did you mean --workdir?"),
        (["--batch-size=3"], "did you mean --config.train.batch_size?"),
        (["--config.optim.learning_rate=nan"], "config.optim.learning_rate=nan"),
        (["--config.optim.learning_rate=fast"], "config.optim.learning_rate=fast"),
        (["--config.train.batch_size=-64"], "config.train.batch_size=-64"),
        (
            ["--config.train.batch_size=100000"],
            "warm-up takes all of the run's 1 step: lower",
        ),
        (["--config.seed=2147483648"], "below 2**31"),
        (["--config.data.name=../x"], "a name such as digits"),
        (["--config.data.name=mnist:9.9.9"], "cannot be opened"),
        (["--config.model.stack=T-C-C-T"], "stage 1 is 16 channels wide"),
        (["--config.train.epochs=2.5"], "config.train.epochs=2.5"),
        (["--config.model.name=resnet50"], "coatnet_*"),
        (["--config.model.stack=C-C-C-X"], "of C, B, S, W, T, M"),
        (["--config.model.strides=2,2"], "astroformer_pico takes 5"),
        (["--config.data.name=digitz"], "did you mean 'digits'"),
        (["--config.data.image_size=12,12"], "each from 16"),
        (["--config.data.image_size=32768,32"], "each from 16 to below 2**15"),
        (["--config.augment.crop_padding=32768"], "from 0 to below 2**15"),
        ([f"--config.train.batch_size={2**20}"], "from 1 to below 2**20"),
        (
            ["--config.model.strides=2,2,2,2,2"],
            "(1, 1, 1, 2, 2) would do",
        ),
        (["stray"], "stray argument 'stray'"),
        (["--epochs=3"], "did you mean --config.train.epochs?"),
        (["--mode=tran"], "--mode=tran is not allowed: one of train, eval"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_mistakes(args, said, tmp_path, capsys):
    workdir = tmp_path / "run"
    code, out = run(capsys, f"--config={DIGITS}", f"--workdir={workdir}", *args)
    assert code == 2
    # The first of these tests prepares the digits.
    (line,) = (x for x in out.err.splitlines() if not x.startswith("preparing digits"))
    assert line.startswith("hybrid-jax: ")
    assert said in line
    assert not workdir.exists()


def test_unknown_model_after_the_config(tmp_path, capsys):
    code, out = run(capsys, f"--config={DIGITS}:astroformer_9", "--workdir=x")
    assert code == 2
    assert "config.model.name='astroformer_9' is not allowed" in out.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--config.seed=1"], "--config is missing"),
        (["--mode=eval"], "--workdir is missing"),
        (["--workdir=", f"--config={DIGITS}"], "--workdir is empty"),
        (["--workdir=x", "--config"], "--config has no value"),
        (["--workdir=x", "--config="], "--config is empty"),
        (["--workdir=x", "--config=."], "--config=. is a folder"),
        (["--workdir=x", f"--config={DIGITS}x"], f"did you mean {DIGITS}?"),
        (["--workdir=x", "--config.seed=1"], "x holds no run: give --config too"),
        (["--workdir=x"], "x holds no run: give --config too"),
        (["--workdir=x", "--config=nowhere.py"], "nowhere.py"),
        (["--workdir=x", "--config=~nobody2/x.py"], "~nobody2/x.py does not exist"),
        (["--workdir=x", f"--config={'x' * 300}"], "x does not exist"),
        (["--workdir=x", "--config=/dev/null"], "get_config"),
        (["--workdir=x", "--mode=eval"], "holds no run"),
        (["--workdir=gs://bucket/run", "--mode=eval"], "mount a bucket"),
        (["--workdir=s3://b/run", f"--config={DIGITS}"], "--workdir=s3://b/run is not"),
    ],
    ids=str,
)
def test_missing_things(args, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out = run(capsys, *args)
    assert code == 2
    assert out.err.count("\n") == 1
    assert said in out.err
    assert not list(tmp_path.iterdir())


def test_evaluation_takes_free_fields_over_the_stored_config():
    there = ["--config.data.path=/there", "--config.train.eval_batch_size", "7"]
    arguments, _ = evaluate.parse(["--workdir=x", *there])
    assert arguments["config"] is None
    expected = {"data.path": "/there", "train.eval_batch_size": 7}
    assert arguments["changed"] == expected
    assert evaluate.parse(["--workdir=x"])[0]["changed"] == {}
    whole = [f"--config={DIGITS}", "--config.seed=3", "--workdir=x"]
    assert evaluate.parse(whole)[0]["changed"] == {}
    for field in ("--config.data.pth=/there", "--config.train.eval_batch_size=many"):
        with pytest.raises(UserError):
            evaluate.parse(["--workdir=x", field])


def test_evaluation_refuses_fields_that_the_run_was_trained_with(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create(Config(), {})
    changed = {"data.dir": "/there", "train.eval_batch_size": 7}
    config = folder.config_with(changed)
    assert config == folder.read_config().replace(changed)
    with pytest.raises(UserError, match=r"^--config\.seed is what the run of "):
        folder.config_with(changed | {"seed": 1})


@pytest.mark.parametrize(
    ("field", "value", "stored"),
    [
        ("train.eval_every", 3, {"train.eval_every_steps": 10}),
        ("train.max_skips", 7, {"train.non_finite": "stop"}),
    ],
)
def test_a_field_without_effect_is_not_changed_in_a_run(field, value, stored, tmp_path):
    folder = RunFolder(tmp_path)
    folder.create(Config().replace(stored), {})
    with pytest.raises(UserError, match=rf"config\.{field}=.* has no effect "):
        folder.config_with({field: value})


@pytest.mark.parametrize(
    ("lines", "model", "said"),
    [
        (["def get_config(:"], "", "line 2: SyntaxError: invalid syntax"),
        (["import nothere"], "", "line 2: ModuleNotFoundError: No module named"),
        (["import sys", "sys.exit(3)"], "", "line 3: SystemExit: 3"),
        (["open('nowhere')"], "", "line 2: FileNotFoundError"),
        (["config.seed = 1"], "", "has no function get_config"),
        (["get_config = lambda: 1 / 0"], "", "line 2: ZeroDivisionError"),
        (["get_config = lambda: None"], "", "get_config returns NoneType"),
        (["get_config = lambda: {}"], "", "get_config returns dict"),
        (["get_config = default"], ":vit_tiny", "takes no model: leave out :vit_tiny"),
        (["get_config = lambda model: 1"], "", "takes a model: give one behind a col"),
        (
            ["def get_config():", "    config.train.batchsize = 3"],
            "",
            "line 3: config.batchsize does not exist, did you mean config.train",
        ),
        (
            ["def get_config():", "    config.optimm.learning_rate = 3"],
            "",
            "line 3: config.optimm does not exist, did you mean config.optim?",
        ),
        (
            ["def get_config():", "    config.train.epochs = 'ten'"],
            "",
            "line 3: TypeError",
        ),
        (
            ["config.unlock().optim.lr = 1", "get_config = lambda: config"],
            "",
            "config.optim.lr does not exist, did you mean config.optim.learning",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_config_files_that_are_wrong_are_named_with_the_line(
    lines, model, said, tmp_path, capsys
):
    path = tmp_path / "broken.py"
    head = "from hybrid_jax.config import default; config = default()"
    path.write_text("\n".join([head, *lines]))
    code, out = run(capsys, f"--config={path}{model}", "--workdir=x")
    assert code == 2
    assert out.err.count("\n") == 1
    assert said in out.err


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--config.data.image_size="], "data.image_size", ()),
        (["--config.data.image_size=32,48"], "data.image_size", (32, 48)),
        (["--config.data.image_size=(32, 48)"], "data.image_size", (32, 48)),
        (["--config.model.strides=[2,1,1,2,1]"], "model.strides", (2, 1, 1, 2, 1)),
        (["--config.model.strides="], "model.strides", ()),
        (["--config.freeze="], "freeze", ()),
        (["--config.freeze=stage[12]"], "freeze", ("stage[12]",)),
        (["--config.freeze=^(stem|head)/"], "freeze", ("^(stem|head)/",)),
        (["--config.freeze=('stem', 'head')"], "freeze", ("stem", "head")),
        (["--config.freeze=4"], "freeze", ("4",)),
        ([f"--config.freeze={as_typed(('a{1,2}', 'b'))}"], "freeze", ("a{1,2}", "b")),
        ([f"--config.freeze={as_typed(('4',))}"], "freeze", ("4",)),
        (["--config.model.stack="], "model.stack", ""),
        (["--config.data.dir", "=a b"], "data.dir", "=a b"),
        (["--config.optim.learning_rate=1"], "optim.learning_rate", 1.0),
        (["--config.seed=1", "--config.seed=2"], "seed", 2),
        (["--noconfig.compilation_cache"], "compilation_cache", False),
        (["--config.compilation_cache=false"], "compilation_cache", False),
    ],
    ids=str,
)
@pytest.mark.parametrize("by", ["before", "behind", "in a file"])
def test_fields_are_set_from_the_command_line(arguments, field, value, by, tmp_path):
    file = f"--config={DIGITS}:astroformer_nano"
    if by == "in a file":
        (tmp_path / "flags").write_text("# seeds\n" + "\n".join(arguments))
        arguments = [f"--flagfile={tmp_path}/flags"]
    order = [*arguments, file] if by == "before" else [file, *arguments]
    config = flags.parse(order, (), takes_config=True).config
    found = configs.flatten(config)
    assert found.pop(field) == value
    left = configs.flatten(flags.parse([file], (), takes_config=True).config)
    assert {name: left[name] for name in found} == found


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["--config.seed=1", "--config.seed", "2"], ["config.seed is given 2 times"]),
        (["--config=a", "--config=b", "-config=c"], ["config is given 3 times"]),
        (["--restart", "--norestart"], ["restart is given 2 times"]),
        (["--config.seed=1", "--", "--config.seed=2"], []),
        (["--flagfile=FILE", "--config.seed=2"], []),
        (["--flagfile=FILE"], []),
    ],
    ids=str,
)
def test_values_that_are_left_out_are_told(words, lines, tmp_path, capsys):
    (tmp_path / "flags").write_text("--config.seed=3\n--config.seed=4\n")
    words = [word.replace("FILE", f"{tmp_path}/flags") for word in words]
    flags.parse(words, [Option("restart", SWITCH, False)], takes_config=True, most=1)
    said = [f"hybrid-jax: --{line}; the last value counts" for line in lines]
    assert capsys.readouterr().err.splitlines() == said


@pytest.mark.parametrize("command", ["train", "evaluate", "benchmark", "inspect"])
def test_all_commands_tell_the_same(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for mistake in ("--config.batch_size=32", "--flagfile=x", "--config.seed=1.5"):
        assert run(capsys, command, f"--config={DIGITS}", mistake)[0] == 2
        code, out = run(capsys, command, f"--config={DIGITS}x")
        assert code == 2
        assert out.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_workdir_that_is_a_file(tmp_path, capsys):
    path = tmp_path / "mine"
    path.write_text("keep")
    code, out = run(capsys, f"--config={DIGITS}", f"--workdir={path}")
    assert code == 2
    assert "is a file" in out.err
    assert path.read_text() == "keep"


def test_an_array_that_exceeds_the_memory_is_one_line(tmp_path, capsys):
    size = "--config.data.image_size=20000,20000"  # relative positions of 10**13 pairs
    code, out = run(capsys, f"--config={DIGITS}", size, f"--workdir={tmp_path}/w")
    assert code == 2
    assert "this computer has too little memory (Unable to allocate" in out.err
    assert "lower config.data.image_size or config.train.batch_size" in out.err
    assert "Traceback" not in out.err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_is_said_can_be_printed_in_any_encoding(encoding):
    say = (
        "import sys; from hybrid_jax import errors; from hybrid_jax.cli import common\n"
        "def run():\n"
        "    print('\\udce9 \\u2026', flush=True)\n"
        "    raise errors.UserError('no folder caf\\udce9 \\u2026')\n"
        "sys.exit(common.guarded(run))"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", say], env=environment, capture_output=True
    )
    dots = "\\u2026" if encoding == "ascii" else "…"
    assert done.returncode == 2
    assert done.stderr.decode() == f"hybrid-jax: no folder caf\\xe9 {dots}\n"
    assert done.stdout.decode() == f"\\udce9 {dots}\n"


@pytest.mark.parametrize("where", ["an import", "the command"])
def test_ctrl_c_during_an_import_ends_the_process_at_once(where, tmp_path):
    """Whatever the module makes of the exception."""
    (tmp_path / "slow.py").write_text(
        "import signal, time\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "except BaseException:\n"
        "    pass\n"
    )
    say = (
        "import signal, sys; from hybrid_jax.cli import common\n"
        "def run(call):\n"
        f"    {'import slow' if where == 'an import' else 'signal.raise_signal(2)'}\n"
        "command = common.Command('', run, 'nothing was written')\n"
        "call = common.Call(('hybrid-jax',), '', [])\n"
        "sys.exit(common.execute(command, call, owns_process=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", say],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 130
    assert done.stderr == "hybrid-jax: interrupted; nothing was written\n"


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_not_lost():
    say = (
        "import gc, signal, sys, time; from hybrid_jax.cli import common\n"
        "def interrupt(*_):\n"
        "    gc.callbacks.clear()\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "def run():\n"
        "    gc.callbacks.append(interrupt)\n"
        "    gc.collect()\n"
        "    time.sleep(60)\n"
        "sys.exit(common.guarded(run, 'nothing was written'))"
    )
    done = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr == "hybrid-jax: interrupted; nothing was written\n"


@pytest.mark.parametrize(
    ("number", "file", "said"),
    [
        (
            errno.ENOSPC,
            None,
            "No space left on device: /full: make room on the disk, and run the same "
            "command again",
        ),
        (
            errno.EROFS,
            "a/.x.safetensors.12-7f0a.tmp",
            "Read-only file system: a/x.safetensors: give a place where you may write",
        ),
        (errno.EEXIST, ".tmp", "File exists: .tmp: give another name"),
        (errno.EIO, "a", "Input/output error: a"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_the_way_out(
    number, file, said, capsys, monkeypatch
):
    monkeypatch.setattr(system_errors, "full_disks", lambda _: ["/full"])

    def run():
        raise OSError(number, os.strerror(number), file)

    assert common.guarded(run) == 2
    assert capsys.readouterr().err == f"hybrid-jax: {said}\n"


def test_a_full_disk_is_named_once(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path).free
    places = (tmp_path / "runs" / "new", tmp_path, "~")
    assert system_errors.full_disks(places) == []
    monkeypatch.setattr(system_errors, "FULL", 2 * free)
    first, *_ = found = system_errors.full_disks(places)
    assert first == str(tmp_path)
    assert len(found) == len({os.stat(folder).st_dev for folder in found})


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_ends_no_command(stream, tmp_path):
    command = f"{sys.executable} -m hybrid_jax.main predict --workdir=no - {stream}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (done.stderr.count("\n") == 1) is (stream != "2>&-")


@pytest.mark.parametrize("platform", ["nonsense", "cuda"])
def test_a_platform_that_is_not_here_is_named(platform):
    command = [sys.executable, "-m", "hybrid_jax.main", "--config=digits"]
    environment = os.environ | {"JAX_PLATFORMS": platform}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if platform == "cuda" and done.returncode == 0:
        pytest.skip("this machine has it")
    assert done.returncode == 2
    (said,) = [line for line in done.stderr.splitlines() if "hybrid-jax:" in line]
    assert f"jax finds no device for JAX_PLATFORMS={platform} (" in said
    assert "Traceback" not in done.stderr


def test_whatever_computes_names_a_platform_that_is_not_here(tmp_path):
    (tmp_path / "config.json").touch()  # `report` looks for it
    commands = [
        "predict --workdir=. x.png",
        "evaluate --workdir=.",
        "export --workdir=. --format=onnx --output=x.onnx",
        "report .",
        "equivariance --model=vit_tiny",
        "inspect --config=digits",
        "baselines --config=digits",
        "convert . x.safetensors",
        "sweep --config=digits --folds=2",
        "study ablation --config=digits --of=blocks",
    ]
    say = (
        "import sys, hybrid_jax as h, numpy as np\n"
        "from hybrid_jax.runs.saved_network import load_network\n"
        "from hybrid_jax.main import main\n"
        "for line in sys.argv[1:]: assert main(['', *line.split()]) == 2, line\n"
        "images = np.zeros((20, 8, 8), 'u1'), np.arange(20) % 2\n"
        "calls = [(h.load_run, '.'), (load_network, '.'), (h.load_weights, 0, {}, '.'),"
        " (h.fit, 'digits', {'train': images}), (h.Classifier().fit, *images)]\n"
        "for call, *arguments in calls:\n"
        "    try: call(*arguments)\n"
        "    except h.errors.UserError as error: print(error, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", say, *commands],
        cwd=tmp_path,
        env=os.environ | {"JAX_PLATFORMS": "nonsense"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "no device for" in line]
    assert len(lines) == len(commands) + 5, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_mark_of_windows_editors_begins_no_flag(tmp_path, capsys):
    (tmp_path / "flags").write_text("\ufeff--workdir=nowhere\n", encoding="utf-8")
    assert main(["hybrid-jax", "evaluate", f"--flagfile={tmp_path / 'flags'}"]) == 2
    assert "nowhere holds no run" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="settings of Linux's C library")
@pytest.mark.parametrize("own", ["", "glibc.malloc.check=0"])
def test_commands_start_anew_with_settings_unless_a_user_chose_otherwise(own):
    show = (
        "import os, sys; from hybrid_jax.cli import common;"
        "common.restart_with_settings();"
        "print(os.environ['GLIBC_TUNABLES'], *sys.argv[1:]);"
        "print(os.environ['XLA_FLAGS'])"
    )
    others = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    others["XLA_FLAGS"] = "--xla_mine=1"
    done = subprocess.run(
        [sys.executable, "-c", show, "a b", "--c=d"],
        env=others | ({"GLIBC_TUNABLES": own} if own else {}),
        capture_output=True,
        text=True,
    )
    settings, flags = done.stdout.splitlines()
    assert settings == f"{own or 'glibc.malloc.hugetlb=1'} a b --c=d", done.stderr
    assert flags == ("" if own else f"{common.XLA_FLAGS} ") + "--xla_mine=1"
