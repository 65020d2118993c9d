"""Judge prediction sets: how often they hold the true class, and how large they are.

The coverage that a user asks for holds on average over many draws of n validation
images. The sets of one draw miss it by about `sqrt(coverage (1 - coverage) / n)`.
"""

from typing import NamedTuple

import numpy as np

from hybrid_jax.evaluation.bootstrap import (
    Estimate,
    accuracy_interval,
    count_units,
    interval,
    resampled_sums,
)
from hybrid_jax.evaluation.predictions import Predictions


class SetQuality(NamedTuple):
    """Coverage and size of prediction sets on labeled images.

    Attributes:
      asked: the coverage that the sets were made for.
      coverage: the share of images whose set holds the true class.
      size: mean number of classes in a set.
    """

    asked: float
    coverage: Estimate
    size: Estimate


def judge_sets(
    predictions: Predictions, included: np.ndarray, asked: float
) -> SetQuality:
    """Return the coverage and the mean size of prediction sets, with 95 % intervals.

    Args:
      predictions: of at least one image.
      included: whether each class is in the set of each image, bool `[N, C]`.
      asked: the coverage that the sets were made for.
    """
    holds = included[np.arange(len(predictions)), predictions.labels]
    sizes, groups = included.sum(1), predictions.groups
    sums, images = resampled_sums(sizes[:, None], groups)
    ends = interval(sums[:, 0] / images, count_units(len(sizes), groups))
    return SetQuality(
        asked,
        Estimate(float(holds.mean()), *accuracy_interval(holds, groups)),
        Estimate(float(sizes.mean()), *ends),
    )
