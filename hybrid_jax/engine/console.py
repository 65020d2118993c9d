"""What a person sees of a run: lines, and on a terminal a bar that moves."""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hybrid_jax.errors import shown

SECONDS_BETWEEN_LINES = 30.0  # where there is no bar


class Reporter:
    """Lines on the screen and in the run's `log.txt`; a bar while training.

    On a terminal a bar shows epoch, time left, images a second and the latest metrics.
    Elsewhere a line says the same after each evaluation, and each half minute.
    """

    def __init__(self, log: Path | None = None, quiet: bool = False):
        """Says nothing at all where it is `quiet`; `log` is a file for all that."""
        self._console = Console(
            highlight=False, markup=False, soft_wrap=True, quiet=quiet
        )
        self._log = None
        if log and not quiet:
            self._log = log.open("a", encoding="utf-8")
        self._bar = self._task = None
        self._last_line = time.monotonic()
        self._started = time.monotonic()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()
        if self._log:
            self._log.close()

    def say(self, text: str) -> None:
        """A line for the screen and the log."""
        self._console.print(shown(text))
        self.note(text)

    def note(self, text: str) -> None:
        """A text for the log alone."""
        if self._log:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shown(text)}\n")
            self._log.flush()

    def start(self, step: int, total: int) -> None:
        """Begins to show progress from a step."""
        self._first, self._total, self._started = step, total, time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=step)
        elif self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[metrics]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(
                "training", total=total, completed=step, metrics=""
            )
            self._bar.start()

    def step(self, step: int) -> None:
        """Moves the bar."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def metrics(
        self, step: int, epoch: str, text: str, evaluated: bool = False
    ) -> None:
        """Shows the latest metrics; those of an evaluation get a line of their own."""
        due = time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES
        self.note(f"epoch {epoch}  {text}")
        if self._bar:
            self._bar.update(self._task, description=f"epoch {epoch}", metrics=text)
        elif evaluated or due:
            self._last_line = time.monotonic()
            line = f"epoch {epoch}  {text}  {self._time_left(step)} left"
            self._console.print(shown(line))

    def table(self, title: str, rows: dict[str, str]) -> None:
        """The last word of a run."""
        if self._bar:
            self._bar.stop()
            self._bar = None
        table = Table(title=shown(title), title_justify="left", show_header=False)
        for name, value in rows.items():
            table.add_row(name, shown(value))
            self.note(f"{name}: {value}")
        self._console.print(table)

    def _time_left(self, step: int) -> str:
        elapsed = time.monotonic() - self._started
        return duration(elapsed / max(step - self._first, 1) * (self._total - step))


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def percent(share: float) -> str:
    """`97.31 %`."""
    return f"{100 * share:.2f} %"
