"""What a person sees while something takes long, with and without a terminal."""

import io
import subprocess
import sys
import time

import pytest
from rich.console import Console
from rich.table import Table

from hybrid_jax import console
from hybrid_jax.console import Reporter, Screen, busy
from hybrid_jax.data.lazy_images import parallel_map


def wait_for(seen):
    """Returns once `seen()`, or after a minute."""
    end = time.monotonic() + 60
    while not seen() and time.monotonic() < end:
        time.sleep(0.01)


def shown(monkeypatch, seconds=600.0, terminal=False):
    """What is printed of a text that is replaced, where the second lasts long."""
    monkeypatch.setattr(console, "SECONDS_BEFORE_LINE", seconds)
    text = io.StringIO()
    with busy(Console(file=text, force_terminal=terminal), "loading data") as say:
        say("compiling")
        wait_for(lambda: seconds > 60 or text.getvalue())
    return text.getvalue()


def test_what_lasts_long_gets_one_line_without_a_terminal(monkeypatch):
    assert shown(monkeypatch, seconds=0.5) == "compiling ...\n"


def test_what_is_quick_gets_no_line(monkeypatch):
    assert shown(monkeypatch) == ""


def test_what_is_quiet_leaves_standard_output_to_others(capsys, monkeypatch):
    """A bar would catch what is printed meanwhile."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    with Reporter(quiet=True) as reporter:
        assert reporter._console.is_terminal
        with reporter.busy("compiling"):
            print("one")
        reporter.start(0, 10)
        print("two")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_a_bar_and_a_text_do_not_meet(monkeypatch):
    """A run that goes back to a checkpoint compiles beside its bar."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Reporter() as reporter:
        reporter.start(0, 10)
        bar = reporter._bar
        with reporter.busy("compiling"):
            assert reporter._console._live_stack == [bar.live]


NAME = "ev:x:pl[red]ate[/]"


@pytest.mark.parametrize("terminal", [False, True])
def test_names_are_shown_as_they_are(terminal, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BEFORE_LINE", 0.1)
    text = io.StringIO()
    screen = Screen(file=text, force_terminal=terminal, color_system=None, width=80)
    screen.print(f"wrote {NAME}")
    table = Table(NAME, title=NAME)
    table.add_row(NAME)
    screen.print(table)
    with busy(screen, NAME) as say:
        wait_for(lambda: text.getvalue().count(NAME) >= 5)
        say(f"{NAME} again")
        wait_for(lambda: text.getvalue().count(NAME) >= 6)
    assert text.getvalue().count(NAME) >= 6


def test_a_title_of_a_bar_is_shown_as_it_is(monkeypatch):
    text = io.StringIO()
    screen = Screen(file=text, force_terminal=True, color_system=None, width=80)
    monkeypatch.setattr("rich.progress.get_console", lambda: screen)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert [*parallel_map(lambda rows: rows.start, 2, NAME, size=1)] == [0, 1]
    assert NAME in text.getvalue()


def test_a_terminal_shows_both_at_once(monkeypatch):
    assert "compiling" in shown(monkeypatch, terminal=True)


NOBODY_READS = """
import os, sys
from hybrid_jax.cli.common import guarded
from hybrid_jax.console import Reporter, Screen

read, write = os.pipe()
os.dup2(write, 1)
os.close(read)
os.close(write)

def run():
    if sys.argv[1] == "train":
        with Reporter() as reporter:
            reporter.say("one")
            reporter.say("two")
        print("the work is done", file=sys.stderr)
    else:
        Screen().print("one")

sys.exit(guarded(run))
"""


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("train", 0, "nobody reads the output any more, and the work goes on\n"),
        ("inspect", 141, ""),
    ],
)
def test_training_goes_on_if_nobody_reads_its_output(command, code, told):
    run = subprocess.run(
        [sys.executable, "-c", NOBODY_READS, command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code
    end = "the work is done\n" if command == "train" else ""
    assert run.stderr == (f"hybrid-jax: {told}{end}" if told else "")
