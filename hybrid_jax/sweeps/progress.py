"""Show the progress of a search or a study: lines, and a bar on a terminal."""

import time
import typing
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from hybrid_jax.config.schema import Config
from hybrid_jax.console import Screen, duration, percent
from hybrid_jax.errors import escape, listed
from hybrid_jax.intervals import in_words, mean
from hybrid_jax.sweeps import table
from hybrid_jax.sweeps.retrain import winner_folder, winner_parts
from hybrid_jax.sweeps.runs import Outcome, read_outcome, share_done
from hybrid_jax.sweeps.search import Search
from hybrid_jax.sweeps.table import Row
from hybrid_jax.sweeps.trial import METRIC
from hybrid_jax.sweeps.worker import trial_folder

if typing.TYPE_CHECKING:
    from hybrid_jax.sweeps.storage import Store


# What each run is called, and its config, by its folder.
NamedRuns = Mapping[Path, tuple[str, Config]]

MOST_COLUMNS = 500  # of a table
SECONDS_BETWEEN_LINES = 60.0  # on running pieces, without a bar


class Status(NamedTuple):
    """Progress of the work.

    Attributes:
      ended: a line for each piece that has ended, by any worker.
      best: best result so far; empty if there is none.
      running: progress of the pieces that are running, in words.
      begun: sum of the shares that are done of the running pieces, as far as known.
    """

    ended: Mapping[Hashable, str]
    best: str = ""
    running: str = ""
    begun: float = 0.0

    @property
    def done(self) -> float:
        """Return how many pieces are done; a running piece counts by its share."""
        return len(self.ended) + self.begun

    def followed_by(self, other: "Status") -> "Status":
        """Return the progress of this work, which has ended, and of what follows it."""
        return other._replace(ended={**self.ended, **other.ended}, best=self.best)


class WorkProgress:
    """Print a line for each piece of work that ends, and estimate the time left."""

    def __init__(
        self, name: str, pieces: str, total: int, look: Callable[[], Status]
    ) -> None:
        """Begin to watch.

        Args:
          name: name of the whole, such as `sweep`.
          pieces: plural name of the pieces, such as `trials`.
          total: number of pieces.
          look: returns the progress; pieces that have ended before are only counted.
        """
        self._console = Screen(goes_on=True, soft_wrap=True)
        self._pieces, self._total, self._look = pieces, total, look
        status = look()
        self._known = {*status.ended}
        self._before, self._started = status.done, time.monotonic()
        self._last_line = self._started
        self._bar: Progress | None = None
        if len(self._known) < total:
            verb = "Resuming" if status.done else "Starting"
            self.say(
                f"{verb} the {name}: {len(self._known)} of {total} {pieces} have ended"
            )

    def __enter__(self) -> "WorkProgress":
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[left]}", markup=False),
                console=self._console,
            )
            self._bar.add_task(self._pieces, total=self._total, left="")
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
        """Print a table; off a terminal, in its full width."""
        if not self._console.is_terminal:
            options = self._console.options.update(max_width=MOST_COLUMNS)
            needed = Measurement.get(self._console, options, shown).maximum
            self._console.width = max(self._console.width, needed)
        self._console.print(shown)

    def update(self) -> None:
        """Print the pieces that have ended since the last call, and move the bar."""
        status = self._look()
        left = self._time_left(status.done)
        for key, line in status.ended.items():
            if key not in self._known:
                self._known.add(key)
                self.say(f"{line}{f', {left} left' if left else ''}")
                self._last_line = time.monotonic()
        if self._bar:
            self._bar.update(
                TaskID(0),
                completed=len(status.ended),
                description=f"{self._pieces} {len(status.ended)}/{self._total}"
                f"{f'  best {status.best}' if status.best else ''}",
                left=f"{status.running}{f'  {left} left' if left else ''}",
            )
        elif status.running and self._is_line_due():
            self._last_line = time.monotonic()
            self.say(f"{status.running}{f'  {left} left' if left else ''}")

    def _is_line_due(self) -> bool:
        return time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES

    def _time_left(self, done: float) -> str:
        """Return an estimate of the time left; empty if there is none."""
        new, left = done - self._before, self._total - done
        if new <= 0 or left <= 0:
            return ""
        return duration((time.monotonic() - self._started) / new * left)


def runs_progress(name: str, parts: NamedRuns, split: str) -> WorkProgress:
    """Return the progress of a fixed list of runs.

    Args:
      name: name of the whole, such as `study`.
      parts: what each run is called, and its config, by its folder.
      split: split whose accuracy is told, `test` or `validation`.
    """
    return WorkProgress(name, "runs", len(parts), lambda: _status(parts, split))


def _status(parts: NamedRuns, split: str) -> Status:
    """Return the progress of some runs; see `runs_progress`."""
    outcomes = {path: read_outcome(path) for path in parts}
    shares = [
        (called, share_done(config, path))
        for path, (called, config) in parts.items()
        if not outcomes[path]
    ]
    running = [f"{called}: {100 * share:.0f} %" for called, share in shares if share]
    return Status(
        {p: _run_line(parts[p][0], o, split) for p, o in outcomes.items() if o},
        running=listed(running, 2, "; "),
        begun=sum(share for _, share in shares),
    )


def _run_line(called: str, outcome: Outcome, split: str) -> str:
    """Describe a run in one line."""
    worth, measured = outcome.state, getattr(outcome, split)
    if outcome.is_complete and measured:
        worth = f"{split} {percent(measured[METRIC])}"
    error = f" ({outcome.error})" if outcome.error else ""
    return f"{called}: {worth}{error} in {duration(outcome.seconds)}"


def search_progress(
    search: Search, store: "Store", folder: Path, trials: int, retrain: int
) -> WorkProgress:
    """Return the progress of the trials of a search, or of the runs of the only one.

    The runs of the winner follow its trials.

    Args:
      search: the search.
      store: storage of its trials.
      folder: folder of the search.
      trials: number of trials.
      retrain: number of runs of the winner.
    """
    only = {} if search.space else _runs_of_only_trial(search, store, folder)

    def look() -> Status:
        rows = table.read_rows(store.study)
        if search.space:
            status = _status_of_trials(rows, *_running(search, store, folder))
        else:
            status = _status(only, "validation")
        has_ended = all(row.result.state != table.UNFINISHED for row in rows)
        if retrain and has_ended and len(rows) >= trials and rows[0].is_complete:
            runs = _runs_of_winner(search, folder, rows[0], retrain)
            status = status.followed_by(_status(runs, "test"))
        return status

    if not search.space:
        total = len(only) + retrain
        return WorkProgress("cross-validation", "runs", total, look)
    pieces = "trials and runs of the winner" if retrain else "trials"
    return WorkProgress("sweep", pieces, trials + retrain, look)


def _runs_of_only_trial(search: Search, store: "Store", folder: Path) -> NamedRuns:
    """Return the runs of a search that varies nothing."""
    runs = {
        trial_folder(folder, 0) / name: (
            name.replace("-seed", ", seed").replace("-", " "),
            config,
        )
        for name, config in search.parts({}).items()
    }
    if any(t.state.is_finished() for t in store.study.get_trials(deepcopy=False)):
        # If a run failed, those after it will not begin.
        return {path: run for path, run in runs.items() if read_outcome(path)}
    return runs


def _runs_of_winner(search: Search, folder: Path, winner: Row, count: int) -> NamedRuns:
    place = winner_folder(folder, winner.number)
    return {
        place / name: (f"winner, {name.replace('-', ' ')}", config)
        for name, config in winner_parts(search, winner, count).items()
    }


def _status_of_trials(rows: list[Row], running: str, begun: float) -> Status:
    """Return the progress of trials.

    Args:
      rows: of all trials, the best first.
      running: progress of those that are running, in words.
      begun: sum of their shares that are done.
    """
    ended = [row for row in rows if row.result.state != table.UNFINISHED]
    best = next((row.mean for row in ended if row.mean is not None), None)
    return Status(
        {row.number: _line(row) for row in sorted(ended, key=lambda r: r.number)},
        "" if best is None else percent(best),
        running,
        begun,
    )


def _running(search: Search, store: "Store", folder: Path) -> tuple[str, float]:
    """Return the progress of the running trials in words, and the sum of their shares.

    The files of runs on other machines may not be here: their shares are unknown.
    """
    told, begun = [], 0.0
    for trial in store.study.get_trials(deepcopy=False):
        has_begun = all(d.name in trial.params for d in search.space)
        if trial.state.is_finished() or not has_begun:
            continue
        place = trial_folder(folder, trial.number)
        parts = search.parts(search.values_of(trial.params))
        share = mean([share_done(config, place / n) for n, config in parts.items()])
        words = [f"{100 * share:.0f} %"] if share else []
        if trial.intermediate_values:
            _, worth = max(trial.intermediate_values.items())
            words.append(f"validation {percent(worth)}")
        if words:
            told.append(f"trial {trial.number}: {', '.join(words)}")
        begun += share
    return listed(told, 2, "; "), begun


def _line(row: Row) -> str:
    """Describe a trial in one line."""
    result = row.result
    worth = f"validation {in_words(result.values)}" if row.is_complete else ""
    params = [f"{name}={table.shown(value)}" for name, value in row.params.items()]
    error = f" ({result.error})" if result.error else ""
    return (
        f"trial {row.number}: {worth or result.state}{error}  {'  '.join(params)}  "
        f"in {duration(result.seconds)}"
    )
