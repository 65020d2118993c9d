"""Run a trial: one set of values, with every seed and on every fold."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.checkpoints.reader import best_checkpoint
from hybrid_jax.config.schema import Config
from hybrid_jax.engine.recorder import Callback
from hybrid_jax.intervals import mean
from hybrid_jax.programs.schedule import Plan
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.sweeps.runs import (
    COMPLETE,
    Outcome,
    load_splits,
    read_outcome,
    run_config,
)

METRIC = "accuracy"  # on validation images, by which trials are chosen
WORST = 0.0  # value of a trial that failed
PRUNED, CRASHED = "pruned", "crashed"
RESULT = "result"  # key of a trial's `Result` in the storage

# Called with the number of evaluations and the accuracy so far; returns whether to end
# the trial.
Report = Callable[[int, float], bool]


class Result(NamedTuple):
    """The result of a trial.

    Attributes:
      state: `complete`, `pruned`, `crashed`, `unfinished`, or how a run failed.
      values: validation accuracy of each complete run, a share of 1.
      seconds: time of all runs.
      error: reason of a failure; empty if there is none.
    """

    state: str
    values: list[float]
    seconds: float
    error: str = ""

    @property
    def value(self) -> float:
        """Return the value that the search maximizes: the mean validation accuracy."""
        is_worth = self.state == COMPLETE and self.values
        return sum(self.values) / len(self.values) if is_worth else WORST


def run_trial(
    parts: Mapping[str, Config],
    folder: Path,
    report: Report,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Run the parts of a trial that have not ended, and return its result.

    Args:
      parts: configs by name; each has a validation split, and loads no test split.
      folder: folder of the trial; each part has a folder in it.
      report: see `Report`.
      callbacks: further callbacks of each run, see `engine.fit.fit`.

    Raises:
      UserError, Interrupted: like `runs.run_config`; the trained steps are saved.
    """
    values: list[float] = []
    seconds, evaluations, left = 0.0, 0, len(parts)
    for name, config in parts.items():
        left -= 1
        watched = _Watched(config, folder / name, values, evaluations, report, not left)
        outcome = run_config(config, folder / name, [watched, *callbacks])
        seconds = round(seconds + outcome.seconds, 2)
        if watched.is_pruned:
            return Result(PRUNED, values, seconds)
        if not outcome.is_complete:
            return Result(outcome.state, values, seconds, f"{name}: {outcome.error}")
        values.append(validation_of(outcome))
        if left:
            # A run that ended early counts in full, so that trials are always compared
            # at the same evaluation of the same part; its last accuracy stands.
            evaluations += evaluations_of(config)
            if report(evaluations, mean(values)):
                return Result(PRUNED, values, seconds)
    return Result(COMPLETE, values, seconds)


def pruned_result(
    parts: Mapping[str, Config], folder: Path, evaluations: int
) -> Result:
    """Return the result of a trial whose worker died when it had been pruned.

    Args:
      parts: configs by name.
      folder: folder of the trial.
      evaluations: the number of evaluations after which the trial was pruned.
    """
    values: list[float] = []
    seconds, planned = 0.0, 0
    for name, config in parts.items():
        outcome = read_outcome(folder / name)
        planned += evaluations_of(config)
        if outcome and outcome.is_complete and planned <= evaluations:
            values.append(validation_of(outcome))
        seconds += outcome.seconds if outcome else _seconds_so_far(folder / name)
    return Result(PRUNED, values, round(seconds, 2))


def _seconds_so_far(workdir: Path) -> float:
    """Return the time of a run that has not ended, up to its last evaluation."""
    rows = RunFolder(workdir).read_history()
    return max((row.get("seconds", 0.0) for row in rows), default=0.0)


def validation_of(outcome: Outcome) -> float:
    """Return the validation accuracy of a complete run."""
    assert outcome.validation, "a trial's runs have a validation split"
    return float(outcome.validation[METRIC])


def evaluations_of(config: Config) -> int:
    """Return the number of evaluations of a run; loads its images to count them."""
    return _plan(config).count_evaluations()


def _plan(config: Config) -> Plan:
    return Plan(config.train, len(load_splits(config.data).train))


class _Watched:
    """A callback of a run that reports the accuracy of its trial so far."""

    def __init__(
        self,
        config: Config,
        workdir: Path,
        values: list[float],
        evaluations: int,
        report: Report,
        is_last: bool,
    ) -> None:
        """Begin to watch.

        Args:
          config: config of the run.
          workdir: folder of the run, which may have begun.
          values: validation accuracies of the trial's earlier runs.
          evaluations: number of evaluations of these runs, as planned.
          report: see `Report`.
          is_last: whether it is the trial's last run, whose end is not reported: a
            trial with nothing left to train is complete.
        """
        self._config, self._is_last = config, is_last
        self._values, self._before, self._report = [*values], evaluations, report
        self.is_pruned = False
        # By step, since a resumed run evaluates its last step again.
        self._rows: dict[int, dict[str, Any]] = {}
        for row in RunFolder(workdir).read_history():
            self._add(row)

    def __call__(self, row: dict[str, Any]) -> bool:
        """Report a row of metrics; return whether to end the run."""
        if not self._add(row):
            return False
        so_far = {step: r for step, r in self._rows.items() if step <= row["step"]}
        best = best_checkpoint(so_far)
        assert best, "the row is of the validation split"
        if self._is_last and self._is_end(best[0], row["step"]):
            return False
        takes_best = self._config.train.checkpoint == "best"
        now = best[1] if takes_best else row
        worth = mean([*self._values, float(now[METRIC])])
        self.is_pruned |= self._report(self._before + len(so_far), worth)
        return self.is_pruned

    def _is_end(self, best: int, step: int) -> bool:
        """Return whether a run ends after a step, by its length or its patience."""
        since_best = sum(best < evaluated <= step for evaluated in self._rows)
        is_out_of_patience = 0 < self._config.train.patience <= since_best
        return is_out_of_patience or step >= _plan(self._config).total_steps

    def _add(self, row: dict[str, Any]) -> bool:
        """Record a row of metrics; return whether it is of the validation split."""
        if row.get("split") != "validation":
            return False
        self._rows[row["step"]] = row
        return True
