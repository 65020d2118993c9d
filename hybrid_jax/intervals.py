"""Compute means over a few runs, with their 95 % confidence intervals."""

import math
import statistics
from collections.abc import Sequence

from scipy import stats

from hybrid_jax.console import percent

mean = statistics.fmean


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a mean, by Student's t.

    Args:
      values: results of runs that differ in seed or fold.

    Returns:
      The lower and the upper end; None for fewer than two values, or if all are equal,
      which tells nothing of how others would scatter.
    """
    if len({*values}) < 2:
        return None
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values)
    half /= math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def share_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the interval of the mean of shares, which lies between 0 and 1."""
    found = interval(values)
    return None if found is None else (max(found[0], 0.0), min(found[1], 1.0))


def in_words(values: Sequence[float]) -> str:
    """Return the mean of shares and half its interval, such as `97.31 % ± 0.40`.

    For two values, return both, `97.31 % (97.20, 97.42)`, since their interval is six
    times as wide as they differ.
    """
    found, middle = interval(values), percent(mean(values))
    if found is None:
        return middle
    if len(values) == 2:
        return f"{middle} ({', '.join(f'{100 * value:.2f}' for value in values)})"
    return f"{middle} ± {50 * (found[1] - found[0]):.2f}"
