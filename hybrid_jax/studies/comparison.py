"""Compare two models seed by seed, and say where one overtakes the other."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hybrid_jax.errors import plural
from hybrid_jax.intervals import interval, mean
from hybrid_jax.studies.results import UNVARIED, Results

DIGITS = 9  # of shares; others are errors of rounding, which would seem to scatter
AHEAD, BEHIND, EQUAL = "ahead", "behind", "not told apart"
ONE_SEED = "One seed tells nothing of the spread, so none of this is sure"


class Difference(NamedTuple):
    """The difference in accuracy of two models at one value.

    Attributes:
      value: value that the study varies.
      mean: mean difference between runs of one seed, a share of 1.
      interval: 95 % interval of the mean; None for fewer than two seeds, and if the
        differences are equal, which with few images may be by chance.
      seeds: number of seeds that both models share.
    """

    value: float
    mean: float
    interval: tuple[float, float] | None
    seeds: int

    @property
    def verdict(self) -> str:
        """Return `AHEAD`, `BEHIND`, or `EQUAL`, also if there is no interval."""
        low, high = self.interval or (0.0, 0.0)
        return AHEAD if low > 0 else BEHIND if high < 0 else EQUAL

    @property
    def is_constant(self) -> bool:
        """Return whether several seeds have one difference, and so no interval."""
        return self.interval is None and self.seeds > 1


def summarize(value: float, shares: Sequence[float]) -> Difference:
    """Return the mean of differences, one a seed, with its interval."""
    shares = [round(share, DIGITS) for share in shares]
    return Difference(value, mean(shares), interval(shares), len(shares))


def differences(results: Results, model: str, twin: str) -> list[Difference]:
    """Return the differences of two models, at each value at which both share a seed.

    Runs of one seed see the same images, so their difference scatters less than their
    accuracies.
    """
    found = []
    for value in results.values:
        ours, theirs = (results.accuracies(name, value) for name in (model, twin))
        shared = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        if shared:
            found.append(summarize(value, shared))
    return found


def in_words(model: str, twin: str, found: Sequence[Difference], axis: str) -> str:
    """Say in one line where a model is ahead, where behind, and where it overtakes.

    Args:
      model: name of the model.
      twin: name of the other model.
      found: differences of the two models.
      axis: name of the values, such as `images a class`.
    """
    if not found:
        return f"{model} and {twin} have no runs of one seed to compare"
    at = {f"{difference.value:g}": difference for difference in found}
    verdicts = "; ".join(
        f"{words} {twin} at {told}" for words, told in _by_verdict(at).items()
    )
    where = _crossing(model, twin, found, axis)
    return f"{model} is {verdicts} {axis}. {where}"


def against(results: Results, model: str, twins: Sequence[str]) -> str:
    """Say which models one model is ahead of, behind, and not told apart from."""
    found = {
        twin: difference
        for twin in twins
        for difference in differences(results, model, twin)
    }
    if not found:
        return "no runs of one seed to compare"
    return "; ".join(f"{words} {told}" for words, told in _by_verdict(found).items())


def left_out(results: Results, model: str, axis: str = "") -> list[str]:
    """Return a line about the failed runs of a model; no line if there are none."""
    failed = [part for part in results.failed if part.model == model]
    values = sorted({part.value for part in failed} - {UNVARIED})
    at = f", at {', '.join(f'{value:g}' for value in values)} {axis}" if values else ""
    line = f"{model}: {plural(len(failed), 'run')} failed{at}; "
    return [f"{line}failed runs are left out"] if failed else []


def in_points(difference: Difference) -> str:
    """Format a difference as `+1.2 ± 0.4`, in points of accuracy (percent)."""
    told = f"{100 * difference.mean:+.1f}"
    if difference.interval:
        low, high = difference.interval
        told += f" ± {50 * (high - low):.1f}"
    return told


def _by_verdict(found: Mapping[str, Difference]) -> dict[str, str]:
    """Return the differences in words, by verdict."""
    words = {AHEAD: "ahead of", BEHIND: "behind", EQUAL: "not told apart from"}
    told = {
        verdict: [
            f"{name} ({in_points(difference)}"
            + (
                f" in each of {difference.seeds} seeds)"
                if difference.is_constant
                else ")"
            )
            for name, difference in found.items()
            if difference.verdict == verdict
        ]
        for verdict in words
    }
    return {
        words[verdict]: ", ".join(those) for verdict, those in told.items() if those
    }


def _crossing(model: str, twin: str, found: Sequence[Difference], axis: str) -> str:
    """Say between which values the sign of the significant differences changes."""
    told = [d for d in found if d.verdict != EQUAL]
    if all(difference.seeds < 2 for difference in found):
        return ONE_SEED
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
