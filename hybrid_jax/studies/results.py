"""Hold the outcomes of a study's runs, by model, value and seed."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hybrid_jax.studies.costs import Cost
from hybrid_jax.sweeps.runs import Outcome
from hybrid_jax.sweeps.trial import METRIC

UNVARIED = 0.0  # the value of runs that differ only in model and seed


def folder_name(value: float) -> str:
    """Return the name of the folder of a value's runs."""
    return f"{value:.15g}"


class Part(NamedTuple):
    """One run of a study.

    Attributes:
      model: name of the model or the variant.
      value: value that the study varies.
      seed: seed of the run.
    """

    model: str
    value: float
    seed: int

    @property
    def folder(self) -> str:
        """Return the path of the run's folder within the folder of the study."""
        value = "" if self.value == UNVARIED else f"{folder_name(self.value)}/"
        return f"{self.model}/{value}seed-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of a study.

    Attributes:
      outcomes: outcome of each run that has ended.
      split: split on which accuracy is measured, `test` or `validation`.
      costs: cost of each model that was measured; empty if the study measures none.
    """

    outcomes: Mapping[Part, Outcome]
    split: str
    costs: Mapping[str, Cost] = dataclasses.field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """Return the models, in the order in which they were given."""
        return [*dict.fromkeys(part.model for part in self.outcomes)]

    @property
    def values(self) -> list[float]:
        """Return the values, in increasing order."""
        return sorted({part.value for part in self.outcomes})

    @property
    def seeds(self) -> list[int]:
        """Return the seeds, in increasing order."""
        return sorted({part.seed for part in self.outcomes})

    @property
    def failed(self) -> dict[Part, Outcome]:
        """Return the outcomes of the runs that failed."""
        items = self.outcomes.items()
        return {part: outcome for part, outcome in items if not outcome.is_complete}

    def accuracy(self, part: Part) -> float | None:
        """Return the accuracy of a run, a share of 1; None if it failed."""
        outcome = self.outcomes[part]
        measured = getattr(outcome, self.split) if outcome.is_complete else None
        return None if measured is None else float(measured[METRIC])

    def accuracies(self, model: str, value: float = UNVARIED) -> dict[int, float]:
        """Return the accuracies of a model at a value, by seed, without failed runs."""
        found = {part.seed: self.accuracy(part) for part in self.at(model, value)}
        return {seed: share for seed, share in found.items() if share is not None}

    def points(self, model: str) -> dict[float, list[float]]:
        """Return the accuracies of a model's complete runs, by value."""
        found = {value: self.accuracies(model, value) for value in self.values}
        return {value: [*runs.values()] for value, runs in found.items() if runs}

    def at(self, model: str, value: float) -> Iterator[Part]:
        """Yield the runs of a model at a value."""
        for part in self.outcomes:
            if (part.model, part.value) == (model, value):
                yield part
