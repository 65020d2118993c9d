"""Run a trial: one set of values, with every seed and on every fold."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.config.schema import Config
from hybrid_jax.engine.run_folder import RunFolder
from hybrid_jax.engine.schedule import Plan
from hybrid_jax.sweeps.runs import COMPLETE, Outcome, load_splits, run_config

METRIC = "accuracy"  # on validation: what chooses
WORST = 0.0  # of a trial that failed
PRUNED, CRASHED = "pruned", "crashed"
RESULT = "result"  # what a trial keeps in the storage: its `Result`

# Is told how many evaluations there were and what the trial is worth so far; returns
# whether to end it.
Report = Callable[[int, float], bool]


class Result(NamedTuple):
    """What a trial came to.

    Attributes:
      state: `complete`, `pruned`, or how a run of it failed.
      values: validation accuracy of each run that is complete.
      seconds: of all runs.
      error: why it failed; empty if it did not.
    """

    state: str
    values: list[float]
    seconds: float
    error: str = ""

    @property
    def value(self) -> float:
        """Return what the search maximizes."""
        is_worth = self.state == COMPLETE and self.values
        return sum(self.values) / len(self.values) if is_worth else WORST


def run_trial(parts: Mapping[str, Config], folder: Path, report: Report) -> Result:
    """Run the parts of a trial, those that have ended excepted.

    Args:
      parts: configs by name; each has a validation split, and loads no test split.
      folder: of the trial; each part has a folder in it.
      report: see `Report`.

    Raises:
      UserError, Interrupted: as `runs.run_config`; what was trained is saved.
    """
    values: list[float] = []
    seconds, evaluations = 0.0, 0
    for name, config in parts.items():
        watched = _Watched(config, folder / name, values, evaluations, report)
        outcome = run_config(config, folder / name, [watched])
        seconds = round(seconds + outcome.seconds, 2)
        if watched.is_pruned:
            return Result(PRUNED, values, seconds)
        if not outcome.is_complete:
            return Result(outcome.state, values, seconds, f"{name}: {outcome.error}")
        values.append(validation_of(outcome))
        evaluations += len(watched.accuracies)
    return Result(COMPLETE, values, seconds)


def validation_of(outcome: Outcome) -> float:
    """Return the metric that chooses, of a run that is complete."""
    assert outcome.validation, "a trial's runs have a validation split"
    return float(outcome.validation[METRIC])


def evaluations_of(config: Config) -> int:
    """Return how often a run is evaluated, as the number of its images says."""
    plan = Plan(config.train, len(load_splits(config.data).train))
    return plan.evaluations_between(0, plan.total_steps)


class _Watched:
    """Receive the metrics of a run, and report what its trial is worth so far."""

    def __init__(
        self,
        config: Config,
        workdir: Path,
        values: list[float],
        evaluations: int,
        report: Report,
    ) -> None:
        """Watch a run.

        Args:
          config: of the run.
          workdir: of the run, which may have begun.
          values: of the trial's runs before it.
          evaluations: of these.
          report: see `Report`.
        """
        self._takes_best = config.train.checkpoint == "best"
        self._values, self._before, self._report = [*values], evaluations, report
        self.is_pruned = False
        # By step, as a run that is resumed evaluates its last step again.
        self.accuracies: dict[int, float] = {}
        for row in RunFolder(workdir).read_history():
            self._add(row)

    def __call__(self, row: dict[str, Any]) -> bool:
        """Return whether the run is to end here."""
        if not self._add(row):
            return False
        so_far = [a for step, a in self.accuracies.items() if step <= row["step"]]
        now = max(so_far) if self._takes_best else so_far[-1]
        values = [*self._values, now]
        worth = sum(values) / len(values)
        self.is_pruned |= self._report(self._before + len(so_far), worth)
        return self.is_pruned

    def _add(self, row: dict[str, Any]) -> bool:
        """Take a row; return whether it is an evaluation that can choose."""
        if row.get("split") != "validation":
            return False
        self.accuracies[row["step"]] = float(row[METRIC])
        return True
