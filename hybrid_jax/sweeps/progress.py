"""Show how far a search is: a line a trial, and on a terminal a bar."""

import time
import typing
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from hybrid_jax.engine.console import duration
from hybrid_jax.errors import escape, listed
from hybrid_jax.sweeps import table
from hybrid_jax.sweeps.table import Row

if typing.TYPE_CHECKING:
    from hybrid_jax.sweeps.storage import Store


class SearchProgress:
    """Print a line for each trial that ends, whichever worker ran it."""

    def __init__(self, store: "Store", trials: int) -> None:
        """Watch a search.

        Args:
          store: of its trials; what has ended there already is only counted.
          trials: how many there are to be.
        """
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._store, self._trials = store, trials
        self._known = {row.number for row in self._ended()}
        self._before, self._started = len(self._known), time.monotonic()
        self._bar: Progress | None = None
        if 0 < self._before < trials:
            self.say(
                f"Resuming the sweep: {self._before} of {trials} trials have ended"
            )

    def __enter__(self) -> "SearchProgress":
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[left]}"),
                console=self._console,
            )
            self._bar.add_task("trials", total=self._trials, left="")
            self._bar.start()
        self.update()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(escape(text))

    def show(self, shown: Any) -> None:
        """Print a table."""
        self._console.print(shown)

    def update(self) -> None:
        """Print what has ended since the last time."""
        rows = self._ended()
        left = self._time_left(len(rows))
        for row in sorted(rows, key=lambda row: row.number):
            if row.number not in self._known:
                self._known.add(row.number)
                self.say(f"{_in_words(row)}{f', {left} left' if left else ''}")
        if self._bar:
            best = next((row.mean for row in rows if row.mean is not None), None)
            found = "" if best is None else f"  best {100 * best:.2f} %"
            self._bar.update(
                TaskID(0),
                completed=len(rows),
                description=f"trials {len(rows)}/{self._trials}{found}",
                left=f"{self._running()}{f'  {left} left' if left else ''}",
            )

    def _running(self) -> str:
        """Return how far the trials are that run at this moment."""
        told = []
        for trial in self._store.study.get_trials(deepcopy=False):
            if not trial.state.is_finished() and trial.intermediate_values:
                step, worth = max(trial.intermediate_values.items())
                told.append(f"trial {trial.number}: {100 * worth:.2f} % ({step})")
        return listed(told, 2)

    def _ended(self) -> list[Row]:
        rows = table.read_rows(self._store.study)
        return [row for row in rows if row.result.state != table.UNFINISHED]

    def _time_left(self, ended: int) -> str:
        """Return how long the rest may take; empty where there is none, or no clue."""
        done, left = ended - self._before, self._trials - ended
        if done <= 0 or left <= 0:
            return ""
        return duration((time.monotonic() - self._started) / done * left)


def _in_words(row: Row) -> str:
    """Return a trial in a line."""
    result = row.result
    worth = f"validation {table.in_words(result.values)}" if row.is_complete else ""
    params = [f"{name}={table.shown(value)}" for name, value in row.params.items()]
    error = f" ({result.error})" if result.error else ""
    return (
        f"trial {row.number}: {worth or result.state}{error}  {'  '.join(params)}  "
        f"in {duration(result.seconds)}"
    )
