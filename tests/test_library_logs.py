"""Warnings of libraries under a command: printed once, in one line."""

import logging
import sys
import types
import warnings

import pytest
from absl import logging as absl_logging

from hybrid_jax import interrupts, library_logs
from hybrid_jax.cli.common import guarded
from hybrid_jax.errors import warn


def log_from(path: str, text: str, *args, level=logging.WARNING, name="absl") -> None:
    record = logging.LogRecord(name, level, path, 1, text, args, None)
    logging.getLogger(name).handle(record)


ORBAX = "/env/lib/python3.11/site-packages/orbax/checkpoint/x.py"


def test_a_warning_is_printed_once_in_a_line_with_its_library(capsys):
    def run():
        for _ in range(3):
            log_from(ORBAX, "[process=%s][thread=a] Skipping merge: %s\nmore", 0, "x")
        log_from("/usr/lib/python3/dist-packages/jax.py", "slow", name="jax._src.x")
        log_from("/home/me/own.py", "mine", name="own", level=logging.ERROR)
        log_from(ORBAX, "of no matter", level=logging.INFO)
        log_from(ORBAX, "[process=0] \n")
        warnings.warn("  ", stacklevel=1)

    assert guarded(run) == 0
    assert capsys.readouterr().err == (
        "hybrid-jax: orbax: Skipping merge: x\nhybrid-jax: jax: slow\n"
        "hybrid-jax: own: mine\n"
    )


def test_a_message_that_a_library_formats_wrongly_does_not_end_the_command(capsys):
    record = logging.LogRecord("absl", 30, ORBAX, 1, "kept %d of", ("three",), None)
    library_logs._OneLineHandler().emit(record)  # pytest's own handler would raise
    assert capsys.readouterr().err == "hybrid-jax: orbax: kept %d of\n"


def test_warnings_of_python_are_printed_in_the_same_way(capsys):
    before = warnings.showwarning

    def run():
        for _ in range(2):
            warnings.warn_explicit("slow\ncache", UserWarning, ORBAX, 1)
        warn(["the temperature is left out"])
        return 0

    assert guarded(run) == 0
    assert capsys.readouterr().err == (
        "hybrid-jax: orbax: slow\nhybrid-jax: the temperature is left out\n"
    )
    assert warnings.showwarning is before


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Metadata file does not exist: /r/1/state/_CHECKPOINT_METADATA", "absl"),
        ("Variant folder /d/digits/1.0.0 has no dataset_info.json", "absl"),
        ("[a=1] _SignalingThread.run() raised an exception: no space", "absl"),
        ("Task exception was never retrieved\nfuture: <orbax/x.py>", "asyncio"),
    ],
)
def test_messages_that_concern_nobody_are_ignored(text, name, capsys):
    with library_logs.print_library_warnings():
        log_from(ORBAX, text, name=name)
    assert capsys.readouterr().err == ""


def test_absl_warnings_are_printed_and_handlers_restored(capsys):
    root = logging.getLogger()
    before = list(root.handlers)
    root.addHandler(logging.StreamHandler(sys.stderr))  # as `logging.info` does
    with library_logs.print_library_warnings():
        absl_logging.warning("the disk is slow")
    root.removeHandler(root.handlers[-1])
    assert root.handlers == before
    assert capsys.readouterr().err.count("the disk is slow\n") == 1


def test_only_the_closed_event_loop_is_ignored_and_hooks_restored(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    before = sys.unraisablehook
    layer = library_logs.ignore_closed_event_loop()
    with interrupts.repeat_dropped(KeyboardInterrupt, lambda: 2):
        assert library_logs.ignore_closed_event_loop() is layer
    closed, other = (
        types.SimpleNamespace(exc_value=RuntimeError(text))
        for text in ("Event loop is closed", "something else")
    )
    sys.unraisablehook(closed)
    sys.unraisablehook(other)
    assert heard == [other]
    layer.remove()
    assert sys.unraisablehook == before


def test_asyncio_is_silent_about_checkpoints_after_the_command_too(capsys):
    with library_logs.print_library_warnings():
        pass
    handler = logging.StreamHandler(sys.stderr)
    asyncio = logging.getLogger("asyncio")
    asyncio.addHandler(handler)
    asyncio.error("Task exception was never retrieved\nfuture: <orbax/x.py>")
    asyncio.error("something else")
    asyncio.removeHandler(handler)
    assert capsys.readouterr().err == "something else\n"
