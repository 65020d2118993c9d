"""Two models on the same images: the difference, and whether it can be chance."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hybrid_jax.evaluation.bootstrap import percentiles, resampled_sums
from hybrid_jax.evaluation.predictions import Predictions


class Comparison(NamedTuple):
    """A paired comparison of accuracies.

    Attributes:
      difference: of the accuracies, first minus second.
      low, high: its 95 % interval, by a bootstrap of images or their groups.
      first_only: images that the first alone has right.
      second_only: images that the second alone has right.
      p_value: of McNemar's exact test, two-sided: how often models of equal accuracy
        differ as much. It takes images for independent.
    """

    difference: float
    low: float
    high: float
    first_only: int
    second_only: int
    p_value: float


def compare(first: Predictions, second: Predictions) -> Comparison:
    """Compare two models on the same images, in the same order.

    Source: McNemar 1947; Dietterich 1998 for its use on classifiers.
    """
    difference = first.correct.astype(int) - second.correct
    sums, images = resampled_sums(difference[:, None], first.groups)
    low, high = percentiles(sums[:, 0] / images)
    ahead, behind = int((difference > 0).sum()), int((difference < 0).sum())
    differing = ahead + behind
    p_value = stats.binomtest(ahead, differing).pvalue if differing else 1.0
    return Comparison(
        float(np.mean(difference)), low, high, ahead, behind, float(p_value)
    )
