"""Calibration: a reliability diagram, and the temperature that calibrates a model."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from hybrid_jax.evaluation.bootstrap import accuracy_interval
from hybrid_jax.evaluation.measures import BINS, bin_of, measure
from hybrid_jax.evaluation.predictions import Predictions
from hybrid_jax.runs.temperature import BOUNDS


class Bin(NamedTuple):
    """Images whose confidence lies between two bounds.

    Attributes:
      low, high: the bounds.
      images: number of images.
      confidence: their mean confidence; NaN without images.
      accuracy: their share of correct predictions; NaN without images.
      accuracy_low, accuracy_high: 95 % interval of it, over images or groups; None
        where there is none.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float
    accuracy_low: float | None = None
    accuracy_high: float | None = None


def reliability(predictions: Predictions) -> list[Bin]:
    """Return a reliability diagram: bins of confidence of equal width.

    Source: Guo et al. 2017, On calibration of modern neural networks.
    """
    number, rows = bin_of(predictions.confidence), []
    for i in range(BINS):
        low, high, inside = i / BINS, (i + 1) / BINS, number == i
        if not inside.any():
            rows.append(Bin(low, high, 0, float("nan"), float("nan")))
            continue
        correct, groups = predictions.correct[inside], predictions.groups
        rows.append(
            Bin(
                low,
                high,
                int(inside.sum()),
                float(predictions.confidence[inside].mean()),
                float(correct.mean()),
                *accuracy_interval(correct, None if groups is None else groups[inside]),
            )
        )
    return rows


def fit_temperature(predictions: Predictions) -> float | None:
    """Return the temperature within `BOUNDS` of the least negative log-likelihood.

    Use it where training has stored none, as for an ensemble. On the same images,
    `training.metrics.best_temperature` differs by up to half a percent, since it
    interpolates.

    It is None if no image is misclassified: the smaller it is, the smaller the loss.

    Args:
      predictions: of validation images, never of the images that are judged.
    """
    if predictions.correct.all():
        return None

    def loss(log_temperature: float) -> float:
        return measure(predictions.scaled(float(np.exp(log_temperature))), "nll")

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded")
    return float(np.exp(found.x))
