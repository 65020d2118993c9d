"""Recall, precision, specificity, F1 and AUC of each class.

Shapes: N images, C classes.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from hybrid_jax.evaluation.bootstrap import Estimate, shares
from hybrid_jax.evaluation.measures import one_hot
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
    own = one_hot(predictions.labels, predictions) > 0
    chosen = one_hot(predictions.predicted, predictions) > 0
    right = own & chosen
    found = shares(
        np.concatenate([right, right, ~own & ~chosen], 1),
        np.concatenate([own, chosen, ~own], 1),
        predictions.groups,
    )
    ranks = stats.rankdata(predictions.log_probabilities, axis=0)
    rows = []
    for i, name in enumerate(names):
        recall, precision, specificity = found[i :: len(names)]
        support = int(own[:, i].sum())
        f1 = _quotient(2 * right[:, i].sum(), support + chosen[:, i].sum())
        auc = _auc(ranks[:, i], own[:, i])
        rows.append(ClassResult(name, support, recall, precision, specificity, f1, auc))
    return rows


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
