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


Value = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Measure(NamedTuple):
    """A row of `MEASURES`.

    Attributes:
      title: name in tables.
      columns: maps predictions to the numbers `[N, k]` that are summed over images.
      value: maps sums `[..., k]`, numbers of images `[...]` and the sums `[k]` of the
        whole sample to the measure `[...]`.
      is_share: whether tables show it in percent.
      counts: whether each image counts as 0 or 1. Then the interval of a proportion
        holds, while the bootstrap interval of a perfect score would have no width.
      by_class: whether it is a mean over classes. Then its interval needs several
        images or groups of each class, since one tells nothing of others.
      has_interval: whether resampling can estimate its interval.
    """

    title: str
    columns: Callable[[Predictions], np.ndarray]
    value: Value
    is_share: bool = True
    counts: bool = False
    by_class: bool = False
    has_interval: bool = True


def _mean(sums: np.ndarray, images: np.ndarray, whole: np.ndarray) -> np.ndarray:
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


def _recalls(sums: np.ndarray) -> np.ndarray:
    """Return the recall `[..., C]` of each class; NaN without images."""
    right, present, _ = np.split(sums, 3, -1)
    return _quotients(right, present)


def _f1_scores(sums: np.ndarray) -> np.ndarray:
    """Return the F1 `[..., C]` of each class; NaN without images and predictions."""
    right, present, answers = np.split(sums, 3, -1)
    return _quotients(2 * right, present + answers)


def _quotients(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    nothing = np.full_like(numerator, np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)


def _mean_over_classes(of_class: Callable[[np.ndarray], np.ndarray]) -> Value:
    """Return the function that averages a number over the classes of the whole sample.

    A class that a resample lacks keeps its number in the whole sample. A mean over the
    classes that remain would be another measure: a network that always gives one of ten
    classes has a balanced accuracy of 1/10, and would have 1/9 wherever a resample
    lacks another class, so that intervals would reach upward.

    Args:
      of_class: maps sums `[..., 3 C]` of `class_counts` to the number `[..., C]` of
        each class; NaN where there is none.
    """

    def value(sums: np.ndarray, images: np.ndarray, whole: np.ndarray) -> np.ndarray:
        known = of_class(whole)
        has_images = np.split(sums, 3, -1)[1] > 0
        found = np.where(has_images, of_class(sums), known)
        return np.asarray(found[..., ~np.isnan(known)].mean(-1))

    return value


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
    "balanced_accuracy": Measure(
        "balanced accuracy", class_counts, _mean_over_classes(_recalls), by_class=True
    ),
    "macro_f1": Measure(
        "macro F1", class_counts, _mean_over_classes(_f1_scores), by_class=True
    ),
    "nll": Measure(
        "negative log-likelihood (nats)", negative_log_likelihood, _mean, False
    ),
    "brier": Measure("Brier score", _brier, _mean, False),
    # Resampling adds noise to the gap of every bin, and so biases their absolute sum.
    "ece": Measure(
        "expected calibration error",
        _calibration_gaps,
        lambda sums, images, whole: np.abs(sums).sum(-1) / images,
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
    return float(row.value(sums, np.asarray(len(predictions)), sums))
