"""Recall, precision, specificity, F1 and AUC of each class.

Shapes: N images, C classes.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hybrid_jax.evaluation.bootstrap import (
    Estimate,
    count_units,
    interval,
    proportion,
    resampled_sums,
)
from hybrid_jax.evaluation.measures import class_counts
from hybrid_jax.evaluation.predictions import Predictions


class ClassResult(NamedTuple):
    """Results of one class against all others.

    Attributes:
      name: name of the class.
      support: number of images of the class.
      recall: share of its images that are predicted as the class (sensitivity).
      precision: share of the images predicted as the class that belong to it.
      specificity: share of the other images that are not predicted as the class.
      f1: harmonic mean of recall and precision.
      auc: probability that an image of the class gets a higher probability of the class
        than an image of another class.

    A number that no image contributes to is NaN.
    """

    name: str
    support: int
    recall: Estimate
    precision: Estimate
    specificity: Estimate
    f1: float
    auc: float


def per_class(predictions: Predictions, names: tuple[str, ...]) -> list[ClassResult]:
    """Return the results of each class, with 95 % intervals.

    The intervals are Wilson's if images are independent, and bootstraps if they have
    groups.

    Args:
      predictions: of at least one image.
      names: names of the classes, in the order of the labels.
    """
    counts = class_counts(predictions)
    shares = _shares(counts.sum(0), np.asarray(len(predictions)))
    draws = None
    if predictions.groups is not None:
        draws = _shares(*resampled_sums(counts, predictions.groups))
    right, support, predicted = np.split(counts.sum(0), 3)
    chosen = predictions.predicted
    ranks = stats.rankdata(predictions.log_probabilities, axis=0)
    rows = []
    for i, name in enumerate(names):
        own = predictions.labels == i
        recall, precision, specificity = (
            _estimate(
                share[i],
                None if draws is None else draws[k][:, i],
                counted,
                predictions.groups,
            )
            for k, (share, counted) in enumerate(
                zip(shares, (own, chosen == i, ~own), strict=True)
            )
        )
        auc = _auc(ranks[:, i], own)
        f1 = _quotient(2 * right[i], support[i] + predicted[i])
        rows.append(
            ClassResult(name, int(support[i]), recall, precision, specificity, f1, auc)
        )
    return rows


def _shares(counts: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return recall, precision and specificity `[..., C]`; NaN without images.

    Args:
      counts: `[..., 3 C]`, sums of `class_counts` over images.
      images: `[...]`, numbers of images.
    """
    right, support, predicted = np.split(counts, 3, axis=-1)
    others = np.asarray(images)[..., None] - support
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = others - (predicted - right)
        return right / support, right / predicted, kept / others


def _estimate(
    share: float,
    draws: np.ndarray | None,
    counted: np.ndarray,
    groups: np.ndarray | None,
) -> Estimate:
    """Return a share with its interval.

    Args:
      share: a share of the counted images.
      draws: shares `[R]` of resampled images; None without groups.
      counted: which images the share is of, bool `[N]`.
      groups: group of each image, `[N]`, or None.
    """
    if not counted.any():
        return Estimate(float("nan"))
    if draws is None or groups is None:
        return Estimate(float(share), *proportion(share, counted.sum()))
    units = count_units(int(counted.sum()), groups[counted])
    return Estimate(float(share), *interval(draws, units, float(share)))


def _quotient(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")


def _auc(ranks: np.ndarray, is_own: np.ndarray) -> float:
    """Return the area under the ROC curve from ranks `[N]` (Mann & Whitney 1947).

    Ties count half.
    """
    own, others = int(is_own.sum()), int((~is_own).sum())
    if not own or not others:
        return float("nan")
    return float((ranks[is_own].sum() - own * (own + 1) / 2) / (own * others))
