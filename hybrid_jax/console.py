"""Show a run to a person: lines, and on a terminal a progress bar."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleDimensions, ConsoleRenderable
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from hybrid_jax.errors import escape, warn

# Without a progress bar:
SECONDS_BETWEEN_LINES = 30.0
SECONDS_BEFORE_LINE = 3.0  # on what takes long

LEAST_COLUMNS = 80


class Screen(Console):
    """A console that prints names as they are, for a reader who may leave early.

    In a name such as `a:x:[red]`, rich would find an emoji and a color. If the reader
    ends before the command does, as `head` does, rich would end the command with exit
    code 1, and say nothing.
    """

    def __init__(self, goes_on: bool = False, **options: Any) -> None:
        """Open standard output, or standard error.

        Args:
          goes_on: whether the command goes on without a reader, since its work is worth
            more than its output; otherwise printing raises `BrokenPipeError`.
          **options: of rich's `Console`.
        """
        super().__init__(highlight=False, markup=False, emoji=False, **options)
        self._goes_on = goes_on

    @property
    def size(self) -> ConsoleDimensions:
        """Return the size of the terminal, but not too narrow for a table.

        In a narrower one, rich would leave columns out; this way, it wraps the lines.
        """
        width, height = super().size
        return ConsoleDimensions(max(width, LEAST_COLUMNS), height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def on_broken_pipe(self) -> None:
        """Print no more, and tell so on standard error; or end the command."""
        if not self._goes_on:
            raise BrokenPipeError
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(
            "hybrid-jax: nobody reads the output any more, and the work goes on",
            file=sys.stderr,
        )


class Reporter:
    """A printer of lines to the screen and a log, with a progress bar for training.

    On a terminal, the bar shows epoch, time left and the latest metrics. Elsewhere, a
    line shows them after each evaluation, and every `SECONDS_BETWEEN_LINES`.

    Attributes:
      notices: what was said of things that are left out, skipped or repaired.
    """

    def __init__(
        self, log: Path | None = None, quiet: bool = False, warns: bool = False
    ) -> None:
        """Open the log.

        Args:
          log: file to append to, or None.
          quiet: print nothing to the screen.
          warns: warn of notices, since nobody would read them otherwise.
        """
        self.notices: list[str] = []
        self._warns = warns
        self._console = Screen(goes_on=True, soft_wrap=True, quiet=quiet)
        self._log = log.open("a", encoding="utf-8") if log else None
        self._bar: Progress | None = None
        self._last_line = self._started = time.monotonic()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_bar()
        if self._log:
            self._log.close()

    def say(self, text: str) -> None:
        """Print a line to the screen and the log."""
        self._console.print(escape(text))
        self.note(text)

    def notice(self, text: str) -> None:
        """Print a line on something that is left out, skipped or repaired."""
        self.say(text)
        self.notices.append(text)
        if self._warns:
            warn([text])

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show a text while the block runs, if there is no bar; see `busy`."""
        with contextlib.nullcontext() if self._bar else busy(self._console, what):
            yield

    def note(self, text: str) -> None:
        """Print a text to the log only."""
        if self._log:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {escape(text)}\n")
            self._log.flush()

    def start(self, step: int, total: int) -> None:
        """Begin to show progress.

        Args:
          step: number of steps that are done.
          total: number of steps of the run.
        """
        self._first, self._total, self._started = step, total, time.monotonic()
        if self._bar is None and _is_live(self._console):
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[metrics]}", markup=False),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.add_task("training", total=total, completed=step, metrics="")
            self._bar.start()
        self.step(step)

    def step(self, step: int) -> None:
        """Move the bar."""
        if self._bar:
            self._bar.update(TaskID(0), completed=step)

    def metrics(
        self, step: int, epoch: str, text: str, evaluated: bool = False
    ) -> None:
        """Show the latest metrics.

        Args:
          step: number of steps that are done.
          epoch: such as `1.5/20`.
          text: the metrics, in words.
          evaluated: whether they are of an evaluation, which always gets a line.
        """
        due = time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES
        self.note(f"epoch {epoch}  {text}")
        if self._bar:
            self._bar.update(TaskID(0), description=f"epoch {epoch}", metrics=text)
        elif evaluated or due:
            self._last_line = time.monotonic()
            line = f"epoch {epoch}  {text}  {self._time_left(step)} left"
            self._console.print(escape(line))

    def table(self, title: str, rows: dict[str, str]) -> None:
        """Stop the bar, and print a table of names and values."""
        self._stop_bar()
        table = Table(title=escape(title), title_justify="left", show_header=False)
        for name, value in rows.items():
            table.add_row(name, escape(value))
            self.note(f"{name}: {value}")
        self._console.print(table)

    @property
    def columns(self) -> int:
        """Width of the screen, in characters."""
        return self._console.width

    def print(self, renderable: ConsoleRenderable) -> None:
        """Print an object of rich, such as a table, to the screen but not the log."""
        self._console.print(renderable)

    def _stop_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _time_left(self, step: int) -> str:
        elapsed = time.monotonic() - self._started
        return duration(elapsed / max(step - self._first, 1) * (self._total - step))


@contextlib.contextmanager
def busy(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Show a text while the block runs: on a terminal at once, elsewhere if it lasts.

    Args:
      console: where to show it.
      what: the text, such as `compiling`.

    Yields:
      A function that replaces the text.
    """
    if _is_live(console):
        with console.status(Text(what)) as status:
            yield lambda text: status.update(Text(text))
        return
    line = _LateLine(console)
    try:
        line.say(what)
        yield line.say
    finally:
        line.cancel()


def _is_live(console: Console) -> bool:
    """Return whether something may move on the screen.

    It would take over standard output, which belongs to the user if nothing is shown.
    """
    return console.is_terminal and not console.quiet


class _LateLine:
    """A text that is printed after `SECONDS_BEFORE_LINE`, unless it is replaced."""

    def __init__(self, console: Console) -> None:
        self._console, self._timer = console, threading.Timer(0, lambda: None)

    def say(self, text: str) -> None:
        self.cancel()
        self._timer = threading.Timer(
            SECONDS_BEFORE_LINE, self._console.print, [f"{escape(text)} ..."]
        )
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()


def facts_grid(facts: Iterable[tuple[str, str]]) -> Table:
    """Return a grid of names in bold, each with its value."""
    grid = Table.grid(padding=(0, 2))
    for name, value in facts:
        grid.add_row(Text(name, style="bold"), Text(value))
    return grid


def duration(seconds: float) -> str:
    """Return a time such as `1:02:03`, or `2:03` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def percent(share: float) -> str:
    """Return a share such as `97.31 %`."""
    return f"{100 * share:.2f} %"
