"""Show the trials of a search as a table, and write them as CSV and JSON."""

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.console import duration
from hybrid_jax.csv_text import csv_text
from hybrid_jax.errors import plural
from hybrid_jax.intervals import in_words, share_interval
from hybrid_jax.json_files import write_json, write_whole
from hybrid_jax.runtime import source_version
from hybrid_jax.sweeps.runs import COMPLETE
from hybrid_jax.sweeps.search import Search
from hybrid_jax.sweeps.trial import PRUNED, RESULT, Result

if typing.TYPE_CHECKING:
    from optuna import Study
    from rich.table import Table

CSV, JSON = "results.csv", "results.json"
SHOWN = 20  # rows on the screen
UNFINISHED = "unfinished"
ORDER = {COMPLETE: 0, PRUNED: 1, UNFINISHED: 3}  # failures come between


class Row(NamedTuple):
    """A trial and its result.

    Attributes:
      number: of the trial, counted from 0.
      params: values of the varied fields, by name, as Optuna stores them.
      result: the result, which may be unfinished.
    """

    number: int
    params: dict[str, Any]
    result: Result

    @property
    def mean(self) -> float | None:
        """Return the mean validation accuracy; None unless the trial is complete."""
        return self.result.value if self.is_complete else None

    @property
    def is_complete(self) -> bool:
        """Return whether every run of the trial was trained to its end."""
        return self.result.state == COMPLETE

    def to_json(self) -> dict[str, Any]:
        """Return the row as a dict for a JSON file."""
        return {
            "trial": self.number,
            "state": self.result.state,
            "mean": self.mean,
            "interval_95": (
                share_interval(self.result.values) if self.is_complete else None
            ),
            "runs": len(self.result.values),
            "values": self.result.values,
            "seconds": self.result.seconds,
            "error": self.result.error,
            "config": self.params,
        }


def read_rows(study: "Study") -> list[Row]:
    """Return the trials of a study, the best first, and equal trials by number."""
    rows = []
    for trial in study.get_trials(deepcopy=False):
        known = trial.user_attrs.get(RESULT) if trial.state.is_finished() else None
        result = Result(**known) if known else Result(UNFINISHED, [], 0.0)
        rows.append(Row(trial.number, dict(trial.params), result))
    return sorted(rows, key=_rank)


def _rank(row: Row) -> tuple[int, float, int]:
    return ORDER.get(row.result.state, 2), -row.result.value, row.number


def write(folder: Path, rows: Sequence[Row], search: Search, command: str = "") -> None:
    """Write `results.csv` and `results.json`; only one worker may do so at a time.

    Args:
      folder: folder of the search.
      rows: its trials.
      search: the search.
      command: command that trains the winner; empty while there is none.
    """
    about = search.to_json() | {"hybrid_jax": source_version()}
    if command:
        about["command of the winner"] = command
    found = [row.to_json() for row in rows]
    write_json(folder / JSON, about | {"trials": found})
    names = [dimension.name for dimension in search.space]
    lines: list[list] = [
        ["trial", "state", "mean", "low", "high", "runs", "seconds", *names, "error"]
    ]
    for row in found:
        low, high = row["interval_95"] or ("", "")
        mean = "" if row["mean"] is None else row["mean"]
        values = [row["config"].get(name, "") for name in names]
        ends = [low, high, row["runs"], row["seconds"], *values, row["error"]]
        lines.append([row["trial"], row["state"], mean, *ends])
    write_whole(folder / CSV, csv_text(lines))


def on_screen(rows: Sequence[Row], search: Search) -> "Table":
    """Return the best rows as a table for the terminal."""
    from rich.table import Table

    table = Table(title=_title(rows), title_justify="left", caption_justify="left")
    names = [dimension.name for dimension in search.space]
    for name in ("trial", "validation", "runs", "time", *names):
        table.add_column(name, overflow="fold")
    for row in rows[:SHOWN]:
        values = row.result.values
        told = in_words(values) if row.is_complete else row.result.state
        params = [shown(row.params.get(name, "")) for name in names]
        seconds = duration(row.result.seconds)
        table.add_row(str(row.number), told, str(len(values)), seconds, *params)
    if len(rows) > SHOWN:
        table.caption = f"and {len(rows) - SHOWN:,} more in {CSV}"
    return table


def shown(value: Any) -> str:
    """Format a value with at most four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _title(rows: Sequence[Row]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.result.state] = counts.get(row.result.state, 0) + 1
    told = [f"{count} {state}" for state, count in counts.items()]
    return f"{plural(len(rows), 'trial')}: {', '.join(told)}"
