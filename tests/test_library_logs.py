"""What libraries log under a command: told once, and in one line."""

import logging
import sys
import types

import pytest
from absl import logging as absl_logging

from hybrid_jax import library_logs
from hybrid_jax.cli.common import guarded


def log_from(path: str, text: str, *args, level=logging.WARNING, name="absl") -> None:
    record = logging.LogRecord(name, level, path, 1, text, args, None)
    logging.getLogger(name).handle(record)


ORBAX = "/env/lib/python3.11/site-packages/orbax/checkpoint/x.py"


def test_a_warning_is_told_once_in_a_line_with_the_name_of_its_library(capsys):
    def run():
        for _ in range(3):
            log_from(ORBAX, "[process=%s][thread=a] Skipping merge: %s\nmore", 0, "x")
        log_from("/usr/lib/python3/dist-packages/jax.py", "slow", name="jax._src.x")
        log_from("/home/me/own.py", "mine", name="own", level=logging.ERROR)
        log_from(ORBAX, "of no matter", level=logging.INFO)

    assert guarded(run) == 0
    assert capsys.readouterr().err == (
        "hybrid-jax: orbax: Skipping merge: x\nhybrid-jax: jax: slow\n"
        "hybrid-jax: own: mine\n"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Metadata file does not exist: /r/1/state/_CHECKPOINT_METADATA", "absl"),
        ("Variant folder /d/digits/1.0.0 has no dataset_info.json", "absl"),
        ("[a=1] _SignalingThread.run() raised an exception: no space", "absl"),
        ("Task exception was never retrieved\nfuture: <orbax/x.py>", "asyncio"),
    ],
)
def test_what_is_known_to_concern_nobody_is_left_out(text, name, capsys):
    with library_logs.printed():
        log_from(ORBAX, text, name=name)
    assert capsys.readouterr().err == ""


def test_absl_s_own_warnings_are_heard_and_handlers_go_again(capsys):
    root = logging.getLogger()
    before = list(root.handlers)
    root.addHandler(logging.StreamHandler(sys.stderr))  # as `logging.info` does
    with library_logs.printed():
        absl_logging.warning("the disk is slow")
    root.removeHandler(root.handlers[-1])
    assert root.handlers == before
    assert capsys.readouterr().err.count("the disk is slow\n") == 1


def test_only_writes_of_a_closed_loop_are_left_out_and_hooks_go_again(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    before = sys.unraisablehook
    hook = library_logs.Unraisable()
    closed, other = (
        types.SimpleNamespace(exc_value=RuntimeError(text))
        for text in ("Event loop is closed", "something else")
    )
    sys.unraisablehook(closed)
    sys.unraisablehook(other)
    assert heard == [other]
    hook.undo()
    assert sys.unraisablehook == before
