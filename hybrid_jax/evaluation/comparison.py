"""Compare two models on the same images: difference of accuracies, and p-value."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hybrid_jax.evaluation.bootstrap import count_units, interval, resampled_sums
from hybrid_jax.evaluation.predictions import Predictions


class Comparison(NamedTuple):
    """A paired comparison of accuracies.

    Attributes:
      difference: accuracy of the first model minus that of the second.
      low, high: 95 % interval of the difference, by a bootstrap of images or groups;
        None for a single image or group, or if all draws are equal.
      first_only: number of images that only the first model predicts correctly.
      second_only: number of images that only the second model predicts correctly.
      p_value: of McNemar's exact test, two-sided: how often models of equal accuracy
        differ as much. The test assumes that images are independent.
    """

    difference: float
    low: float | None
    high: float | None
    first_only: int
    second_only: int
    p_value: float


def compare(first: Predictions, second: Predictions) -> Comparison:
    """Compare the accuracies of two models on the same images, in the same order.

    Source: McNemar 1947; Dietterich 1998 for its use on classifiers.
    """
    difference = first.correct.astype(int) - second.correct
    sums, images = resampled_sums(difference[:, None], first.groups)
    units = count_units(len(difference), first.groups)
    low, high = interval(sums[:, 0] / images, units)
    ahead, behind = int((difference > 0).sum()), int((difference < 0).sum())
    differing = ahead + behind
    p_value = stats.binomtest(ahead, differing).pvalue if differing else 1.0
    return Comparison(
        float(np.mean(difference)), low, high, ahead, behind, float(p_value)
    )
