"""Compare two models on the same images: difference of accuracies, and p-value."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hybrid_jax.evaluation.bootstrap import count_units, interval, resampled_sums
from hybrid_jax.evaluation.predictions import Predictions

MCNEMAR, SIGN_FLIP = "McNemar", "sign-flip test over groups"  # names of tests


class Comparison(NamedTuple):
    """A paired comparison of accuracies.

    Attributes:
      difference: accuracy of the first model minus that of the second.
      low, high: 95 % interval of the difference, by a bootstrap of images or groups;
        None for a single image or group, or if all draws are equal.
      first_only: number of images that only the first model predicts correctly.
      second_only: number of images that only the second model predicts correctly.
      p_value: of the test, two-sided: how often models of equal accuracy differ as
        much.
      test: `MCNEMAR`, which takes images as independent; or `SIGN_FLIP`, if they have
        groups.
    """

    difference: float
    low: float | None
    high: float | None
    first_only: int
    second_only: int
    p_value: float
    test: str


def compare(first: Predictions, second: Predictions) -> Comparison:
    """Compare the accuracies of two models on the same images, in the same order.

    If either model's images have groups, the bootstrap and the test are over groups.

    Source: McNemar 1947; Dietterich 1998 for its use on classifiers.
    """
    groups = second.groups if first.groups is None else first.groups
    difference = first.correct.astype(int) - second.correct
    sums, images = resampled_sums(difference[:, None], groups)
    low, high = interval(sums[:, 0] / images, count_units(len(difference), groups))
    ahead, behind = int((difference > 0).sum()), int((difference < 0).sum())
    if groups is None:
        test, differing = MCNEMAR, ahead + behind
        p_value = stats.binomtest(ahead, differing).pvalue if differing else 1.0
    else:
        test, p_value = SIGN_FLIP, sign_flip_p(difference, groups)
    return Comparison(
        float(np.mean(difference)), low, high, ahead, behind, float(p_value), test
    )


def sign_flip_p(difference: np.ndarray, groups: np.ndarray) -> float:
    """Return the two-sided p-value of the sign-flip test over groups.

    If the models are equal, the sum of a group's differences is as likely to have the
    other sign. The p-value is the share of all choices of signs that make the total as
    large. It is exact for any number of groups, since sums are whole numbers: adding a
    group to the distribution of the total is one convolution. With each image as a
    group, this is McNemar's exact test. The p-value of n groups is at least
    `2 / 2 ** n`.

    Source: Fisher 1935, The design of experiments, section 21.

    Args:
      difference: correct answers of the first model minus those of the second, int
        `[N]`.
      groups: group of each image, `[N]`.
    """
    number = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(number, difference).astype(int)
    # chance[n]: that the groups with a positive sign have n in all.
    chance = np.ones(1)
    for size in np.abs(sums[sums != 0]):
        chance = np.pad(chance, (0, size)) / 2 + np.pad(chance, (size, 0)) / 2
    most = len(chance) - 1
    totals = 2 * np.arange(most + 1) - most
    return min(float(chance[np.abs(totals) >= abs(sums.sum())].sum()), 1.0)
