"""Compare two models seed by seed, and say where one overtakes the other."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from hybrid_jax.engine.intervals import interval, mean
from hybrid_jax.studies.results import Results

NO_SCATTER = 1e-9
AHEAD, BEHIND, EQUAL = "ahead", "behind", "not told apart"


class Difference(NamedTuple):
    """How much better one model is than another at one value.

    Attributes:
      value: of what the study varies.
      mean: of the differences between runs of one seed, a share of 1.
      interval: 95 % of it; None of fewer than two seeds.
    """

    value: float
    mean: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """Return whether the difference can be told from none."""
        low, high = self.interval or (0.0, 0.0)
        if high - low < NO_SCATTER:
            return EQUAL  # few images give equal differences by chance
        return AHEAD if low > 0 else BEHIND if high < 0 else EQUAL


def differences(results: Results, model: str, twin: str) -> list[Difference]:
    """Return the differences of two models, at each value that both have runs at.

    Runs of one seed see the same images, so their difference scatters less than either.
    """
    found = []
    for value in results.values:
        ours, theirs = (results.accuracies(name, value) for name in (model, twin))
        shared = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        if shared:
            found.append(Difference(value, mean(shared), interval(shared)))
    return found


def in_words(model: str, twin: str, found: Sequence[Difference], axis: str) -> str:
    """Say in a line where a model is ahead, behind, and where it overtakes.

    Args:
      model: name.
      twin: name of the other one.
      found: their differences.
      axis: what the values are, such as `images a class`.
    """
    if not found:
        return f"{model} and {twin} have no runs of one seed to compare"
    parts = []
    for verdict in (AHEAD, BEHIND, EQUAL):
        those = [difference for difference in found if difference.verdict == verdict]
        if those:
            told = ", ".join(map(_points, those))
            name = "not told apart from" if verdict == EQUAL else f"{verdict} of"
            name = "behind" if verdict == BEHIND else name
            parts.append(f"{name} {twin} at {told}")
    where = _crossing(model, twin, found, axis)
    return f"{model} is {'; '.join(parts)} {axis}. {where}"


def _points(difference: Difference) -> str:
    told = f"{difference.value:g} ({100 * difference.mean:+.1f}"
    if difference.interval:
        low, high = difference.interval
        told += f" ± {50 * (high - low):.1f}"
    return f"{told})"


def _crossing(model: str, twin: str, found: Sequence[Difference], axis: str) -> str:
    """Say between which values one overtakes the other, of those that can be told."""
    told = [d for d in found if d.verdict != EQUAL]
    if all(difference.interval is None for difference in found):
        return "One seed tells nothing of the spread, so none of this is sure"
    changes = [
        (before, after)
        for before, after in itertools.pairwise(told)
        if before.verdict != after.verdict
    ]
    if changes:
        return ", and ".join(
            f"{model if after.verdict == AHEAD else twin} overtakes between "
            f"{before.value:g} and {after.value:g} {axis}"
            for before, after in changes
        )
    return "Neither overtakes the other here"
