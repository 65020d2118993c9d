"""Measures of predictions; each is a function of sums over images.

A resample of the images only changes the weights in these sums, so a thousand resamples
are one matrix product. To add a measure, add a row to `MEASURES`.

Shapes: N images, C classes, k columns of a measure; `...` are axes of resamples.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hybrid_jax.evaluation.predictions import Predictions

TOP = 5
BINS = 15  # number of bins of confidence, which have equal widths


class Measure(NamedTuple):
    """A row of `MEASURES`.

    Attributes:
      title: name in tables.
      columns: maps predictions to the numbers `[N, k]` that are summed over images.
      value: maps sums `[..., k]` and numbers of images `[...]` to the measure `[...]`.
      is_share: whether tables show it in percent.
      counts: whether each image counts as 0 or 1. Then the interval of a proportion
        holds, while the bootstrap interval of a perfect score would have no width.
      has_interval: whether resampling can estimate its interval.
    """

    title: str
    columns: Callable[[Predictions], np.ndarray]
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    is_share: bool = True
    counts: bool = False
    has_interval: bool = True


def _mean(sums: np.ndarray, images: np.ndarray) -> np.ndarray:
    return sums[..., 0] / images


def _in_top(predictions: Predictions) -> np.ndarray:
    scores, labels = predictions.log_probabilities, predictions.labels
    top = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    return (top == labels[:, None]).any(1, keepdims=True)


def negative_log_likelihood(predictions: Predictions) -> np.ndarray:
    """Return the negative log-likelihood of each image's label in nats, `[N, 1]`."""
    rows = np.arange(len(predictions))
    return -predictions.log_probabilities[rows, predictions.labels][:, None]


def _brier(predictions: Predictions) -> np.ndarray:
    errors = predictions.probabilities - one_hot(predictions.labels, predictions)
    return (errors**2).sum(1, keepdims=True)


def one_hot(labels: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Return labels `[N]` in one-hot form, float64 `[N, C]`."""
    return np.eye(predictions.classes)[labels]


def class_counts(predictions: Predictions) -> np.ndarray:
    """Return what each image adds to the counts of each class, float64 `[N, 3 C]`.

    The counts are correct predictions, then images, then predictions of each class.
    """
    images = one_hot(predictions.labels, predictions)
    right = images * predictions.correct[:, None]
    answers = one_hot(predictions.predicted, predictions)
    return np.concatenate([right, images, answers], 1)


def _balanced_accuracy(sums: np.ndarray, images: np.ndarray) -> np.ndarray:
    right, present, _ = np.split(sums, 3, -1)
    return _mean_over_classes(right, present)


def _macro_f1(sums: np.ndarray, images: np.ndarray) -> np.ndarray:
    right, present, answers = np.split(sums, 3, -1)
    return _mean_over_classes(2 * right, present + answers)


def _mean_over_classes(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the mean of the quotients of classes whose denominator is not 0."""
    is_there = denominator > 0
    quotients = np.divide(
        numerator, denominator, out=np.zeros_like(numerator), where=is_there
    )
    return quotients.sum(-1) / is_there.sum(-1)


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, from 0; a confidence of 1 is in the last bin.

    Args:
      confidence: `[N]`, from 0 to 1.
    """
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def _calibration_gaps(predictions: Predictions) -> np.ndarray:
    """Return each image's confidence minus correctness, in the column of its bin."""
    gap = predictions.confidence - predictions.correct
    return np.eye(BINS)[bin_of(predictions.confidence)] * gap[:, None]


MEASURES: dict[str, Measure] = {
    "accuracy": Measure("accuracy", lambda p: p.correct[:, None], _mean, counts=True),
    "top5": Measure("top-5 accuracy", _in_top, _mean, counts=True),
    "balanced_accuracy": Measure("balanced accuracy", class_counts, _balanced_accuracy),
    "macro_f1": Measure("macro F1", class_counts, _macro_f1),
    "nll": Measure(
        "negative log-likelihood (nats)", negative_log_likelihood, _mean, False
    ),
    "brier": Measure("Brier score", _brier, _mean, False),
    # Resampling adds noise to the gap of every bin, and so biases their absolute sum.
    "ece": Measure(
        "expected calibration error",
        _calibration_gaps,
        lambda sums, images: np.abs(sums).sum(-1) / images,
        has_interval=False,
    ),
}


def names_for(predictions: Predictions) -> list[str]:
    """Return the names of the measures that apply; top-5 needs more than 5 classes."""
    return [name for name in MEASURES if name != "top5" or predictions.classes > TOP]


def measure(predictions: Predictions, name: str) -> float:
    """Return the value of a measure; `name` is a row of `MEASURES`."""
    row = MEASURES[name]
    sums = row.columns(predictions).sum(0, dtype=np.float64)
    return float(row.value(sums, np.asarray(len(predictions))))
