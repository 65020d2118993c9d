"""What a model does with each class.

Shapes: N images, C classes.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hybrid_jax.evaluation.bootstrap import (
    Estimate,
    percentiles,
    proportion,
    resampled_sums,
)
from hybrid_jax.evaluation.measures import class_counts
from hybrid_jax.evaluation.predictions import Predictions


class ClassResult(NamedTuple):
    """A class, against all others.

    Attributes:
      name: of the class.
      support: how many images it has.
      recall: share of its images that are called so (sensitivity).
      precision: share of the images called so that are.
      specificity: share of the other images that are not called so.
      f1: harmonic mean of recall and precision.
      auc: chance that an image of it has a higher probability of it than another image.

    What has no image to be computed from has the value NaN.
    """

    name: str
    support: int
    recall: Estimate
    precision: Estimate
    specificity: Estimate
    f1: float
    auc: float


def per_class(predictions: Predictions, names: tuple[str, ...]) -> list[ClassResult]:
    """Return a row for each class, with 95 % intervals.

    They are Wilson's of independent images, or bootstraps of groups where there are.

    Args:
      predictions: of the images.
      names: of the classes, in the order of the labels.
    """
    counts = class_counts(predictions)
    shares = _shares(counts.sum(0), np.asarray(len(predictions)))
    draws = None
    if predictions.groups is not None:
        draws = _shares(*resampled_sums(counts, predictions.groups))
    right, support, called = np.split(counts.sum(0), 3)
    ranks = stats.rankdata(predictions.log_probabilities, axis=0)
    rows = []
    for i, name in enumerate(names):
        of = (support[i], called[i], len(predictions) - support[i])
        recall, precision, specificity = (
            _estimate(share[i], images, None if draws is None else draws[k][:, i])
            for k, (share, images) in enumerate(zip(shares, of, strict=True))
        )
        own = predictions.labels == i
        auc = _auc(ranks[:, i], own)
        f1 = _quotient(2 * right[i], support[i] + called[i])
        rows.append(
            ClassResult(name, int(support[i]), recall, precision, specificity, f1, auc)
        )
    return rows


def _shares(counts: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return recall, precision and specificity `[..., C]`; NaN of nothing.

    Args:
      counts: `[..., 3 C]`, of `class_counts`.
      images: `[...]`, how many there are.
    """
    right, support, called = np.split(counts, 3, axis=-1)
    others = np.asarray(images)[..., None] - support
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = others - (called - right)
        return right / support, right / called, kept / others


def _estimate(share: float, images: float, draws: np.ndarray | None) -> Estimate:
    if not images:
        return Estimate(float("nan"))
    if draws is None:
        return Estimate(float(share), *proportion(share, images))
    return Estimate(float(share), *percentiles(draws))


def _quotient(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")


def _auc(ranks: np.ndarray, is_own: np.ndarray) -> float:
    """Return the area under the ROC curve, from the ranks `[N]` (Mann & Whitney 1947).

    Ties count half.
    """
    own, others = int(is_own.sum()), int((~is_own).sum())
    if not own or not others:
        return float("nan")
    return float((ranks[is_own].sum() - own * (own + 1) / 2) / (own * others))
