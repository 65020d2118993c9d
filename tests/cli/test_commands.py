"""The program and its subcommands: names, help, and what is imported for it."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid_jax
from hybrid_jax.cli import common
from hybrid_jax.cli.common import Call
from hybrid_jax.main import COMMANDS, load_command, main, usage

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "configs" / "digits.py")


@pytest.fixture
def said(capsys):
    """Runs the program; gives its exit code and what it prints."""

    def run(*args):
        code = main(["hybrid-jax", *args])
        return code, capsys.readouterr()

    return run


@pytest.fixture
def ran(monkeypatch):
    """Has subcommands note what they are asked instead of doing it."""
    calls = []
    for name in COMMANDS:
        module = importlib.import_module(f"hybrid_jax.cli.{name}")
        noted = module.COMMAND._replace(
            run=lambda call, name=name: calls.append((name, call.arguments))
        )
        monkeypatch.setattr(module, "COMMAND", noted)
    return calls


@pytest.mark.parametrize("name", ["", *COMMANDS])
@pytest.mark.parametrize("flag", ["--help", "-h", "-?"])
def test_help_fits_a_screen_and_begins_with_an_example(name, flag, said):
    code, out = said(*filter(None, [name, flag]))
    assert (code, out.err) == (0, "")
    lines = out.out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    what, empty, example = lines[:3]
    assert what.endswith(".")
    assert not empty
    assert example.startswith(f"  hybrid-jax {name}".rstrip() + ("" if name else " --"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_every_flag_with_its_default(name):
    module = importlib.import_module(f"hybrid_jax.cli.{name}")
    for option in getattr(module, "OPTIONS", ()):
        flag = rf"^  --{option.name}\b"
        if option.default:
            value = str(option.default).removesuffix(".0")
            flag += rf"[^\[]*\[{value}\]"
        assert re.search(flag, module.COMMAND.text, re.M), option.name
    assert "Exit code: 0" in module.COMMAND.text
    assert name in usage()


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_the_help_are_right(name):
    """Whatever they name need not be there, so they are parsed and not run."""
    module = importlib.import_module(f"hybrid_jax.cli.{name}")
    text = (
        load_command(name)
        .text.replace("\\\n", "")
        .replace("=configs/", f"={ROOT}/configs/")
    )
    examples = [line for line in text.splitlines() if line.startswith("  hybrid-jax")]
    assert len(examples) >= 2
    for example in map(shlex.split, examples):
        assert example[:2] == ["hybrid-jax", name]
        if name == "sweep":
            from hybrid_jax.cli.sweep import parse as parse_sweep

            assert parse_sweep(example[2:]).search.space
        elif name in ("train", "evaluate", "benchmark", "inspect"):
            from hybrid_jax.cli.flags import parse

            parsed = parse(example[2:], module.OPTIONS, takes_config=True)
            assert parsed.config is not None or parsed.values["workdir"]
        elif name == "report":
            from hybrid_jax.cli.flags import parse

            assert parse(example[2:], module.OPTIONS, True, most=9).positional


def test_nothing_asked_for_shows_help_and_is_no_success(said):
    code, out = said()
    assert (code, out.out) == (2, "")
    assert out.err == usage() + "\n"


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (["--config=x"], ("train", ["--config=x"])),
        (["--workdir=w", "--config=x"], ("train", ["--workdir=w", "--config=x"])),
        (["train", "--config=x"], ("train", ["--config=x"])),
        (["evaluate", "--workdir=w"], ("evaluate", ["--workdir=w"])),
        (["--mode=eval", "--workdir=w"], ("evaluate", ["--workdir=w"])),
        (["--workdir", "w", "--mode", "eval"], ("evaluate", ["--workdir", "w"])),
        (["--mode=train", "--config=x"], ("train", ["--config=x"])),
        (["-mode=train", "-mode=eval", "-h=x"], ("evaluate", ["--h=x"])),
        (["fields", "augment"], ("fields", ["augment"])),
        (["models"], ("models", [])),
    ],
    ids=str,
)
def test_commands_by_name_and_by_flags(arguments, called, ran, said):
    assert said(*arguments)[0] == 0
    assert ran == [called]


def test_the_version_is_told(capsys):
    assert main(["hybrid-jax", "--version"]) == 0
    assert capsys.readouterr().out == f"hybrid-jax {hybrid_jax.__version__}\n"


def test_a_mode_may_stand_in_a_file(tmp_path, ran, said):
    path = tmp_path / "flags"
    path.write_text("--mode=eval\n--workdir=w\n")
    assert said(f"--flagfile={path}", "--config=x")[0] == 0
    assert ran == [("evaluate", ["--workdir=w", "--config=x"])]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "trian is no command, did you mean 'train'?"),
        (["trian", "--help"], "trian is no command, did you mean 'train'?"),
        (["eval", "--workdir=x"], "did you mean 'evaluate'?"),
        (["inspect_data"], "did you mean 'inspect'?"),
        (["predict", "x.png"], "--workdir is missing"),
        (["predict", "--workdir=runs/x"], "images are missing"),
        (["predict", "--workdir=gs://b/r", "x.png"], "mount a bucket"),
        (["predict", "--workdir=nowhere", "x.png"], "nowhere holds no run"),
        (["xyz"], "xyz is no command: give one of train, evaluate, predict, "),
        (["configs/digits.py"], "write --config=configs/digits.py"),
        (["configs/digits.py:vit_tiny"], "write --config=configs/digits.py:vit_tiny"),
        (["--mode=tran"], "--mode=tran is not allowed: one of train, eval"),
        (["--mode"], "--mode has no value"),
        (["study", "scaling", "--config=digits", "--models="], "--models is empty"),
        (["baselines", "--config=digits", "--methods="], "--methods is empty"),
        (["--flagfile=nowhere"], "--flagfile=nowhere cannot be read"),
        (["train", "configs/digits.py"], "write --config=configs/digits.py"),
        (["train", "evaluate"], "stray argument 'evaluate'"),
        (["train", "-config.data.test", "False"], "write --config.data.test=False"),
        (["train", "--config.seed=3", "true"], "'true': every option begins with --"),
        (["train", "--", "true"], "'true': every option begins with --"),
        (
            ["train", "--workdir", "false", "--config.data.test", "false"],
            "write --config.data.test=false",
        ),
        (["train"], "--config is missing"),
        (["evaluate"], "--workdir is missing"),
        (["evaluate", "--workdr=x"], "did you mean --workdir?"),
        (["evaluate", "--workdir=gs://b/run"], "mount a bucket"),
        (["benchmark"], "--config is missing"),
        (["benchmark", f"--config={DIGITS}", "--seconds=inf"], "from 0.001 to 3600"),
        (["benchmark", f"--config={DIGITS}", "--seconds=nan"], "from 0.001 to 3600"),
        (["inspect", "--outptu=x"], "did you mean --output?"),
        (["train", f"--config={DIGITS}", "--processes=two"], "a whole number from 0"),
        (["sweep", "--workers=1024"], "a whole number from 1 to below 2**10"),
        (["study", "low-data", "--workers=1024"], "from 1 to below 2**10"),
        (["convert"], "the source is missing"),
        (["convert", "a", "b.safetensors", "c"], "stray argument 'c'"),
        (["convert", "--config.seed=1"], "--config.seed does not exist"),
        (["convert", "a", "--to"], "--to has no value"),
        (["convert", "a", "--to", "--model=b"], "--to has no value"),
        (["models", "a", "b"], "stray argument 'b'"),
        (["models", "--parameters=perhaps"], "--parameters=perhaps is not allowed"),
        (["models", "--markdown", "vit_tiny"], "leave out the name"),
        (["models", "--write=x", "--num-classes=3"], "leave out --num-classes"),
        (["models", "--learning_rate=3"], "--learning_rate does not exist (see"),
        (["fields", "--config.seed=1"], "--config.seed does not exist"),
        (["fields", "--config=nosuch"], "--config=nosuch does not exist: give one"),
    ],
    ids=str,
)
def test_mistakes(arguments, told, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out = said(*arguments)
    assert (code, out.out) == (2, "")
    assert out.err.startswith("hybrid-jax: ")
    assert out.err.count("\n") == 1
    assert told in out.err
    assert not list(tmp_path.iterdir())


def test_a_file_that_looks_like_a_flag_is_told_how_to_be_given(
    said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-x=1.png").touch()
    code, out = said("predict", "--workdir=w", "-x=1.png")
    assert (code, out.err.count("\n")) == (2, 1)
    assert "-x=1.png is no flag: for the file, write ./-x=1.png" in out.err
    code, out = said("predict", "--workdir=w", "./-x=1.png")
    assert "w holds no run" in out.err


def test_help_imports_nothing_slow():
    """Neither jax nor what configs are made of."""
    say = (
        "import sys; from hybrid_jax.main import COMMANDS, main\n"
        "for name in COMMANDS: assert main(['hybrid-jax', name, '--help']) == 0\n"
        "assert main(['hybrid-jax', '--help']) == 0\n"
        "slow = {'jax', 'numpy', 'absl', 'ml_collections', 'rich', 'PIL'}\n"
        "print(sorted(slow & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", say], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_program_is_shown_as_it_was_typed(monkeypatch):
    monkeypatch.setattr(common.shutil, "which", lambda name: f"/bin/{name}")
    assert common.read_call(["/bin/hybrid-jax", "a"]).program == ("hybrid-jax",)
    assert common.read_call(["/own/hybrid-jax"]).program == ("/own/hybrid-jax",)
    python = sys.executable
    assert common.read_call(["here/main.py"]).program == (python, "here/main.py")


@pytest.mark.parametrize(
    "word",
    [
        "a",
        "a b",
        "it's",
        "it's $HOME",
        "it's !!",
        "$HOME;",
        "a\nb",
        "a'\\\tb",
        "\udce9\xe9",
        "",
        "-",
    ],
)
def test_lines_can_be_pasted_into_a_shell(word):
    line = Call(("printf", "%s|"), "", []).line("", word, "end")
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == word.encode(errors="surrogateescape") + b"|end|"
    assert line.isprintable()
