"""Judge prediction sets: how often they hold the true class, and how large they are.

The coverage that a user asks for holds on average over many draws of n validation
images. The sets of one draw miss it by about `sqrt(coverage (1 - coverage) / n)`.
"""

from typing import NamedTuple

import numpy as np

from hybrid_jax.evaluation.bootstrap import (
    Estimate,
    percentiles,
    proportion,
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
    columns = np.stack([holds, included.sum(1)], axis=1)
    sums, images = resampled_sums(columns, predictions.groups)
    drawn = sums / images[:, None]
    share, size = columns.mean(0).tolist()
    interval = percentiles(drawn[:, 0])
    if predictions.groups is None:
        interval = proportion(share, len(predictions))
    return SetQuality(
        asked, Estimate(share, *interval), Estimate(size, *percentiles(drawn[:, 1]))
    )
