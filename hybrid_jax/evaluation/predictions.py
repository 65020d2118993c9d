"""Predictions of labeled images, of one model or of an ensemble.

Shapes: N images, C classes.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Log probabilities of labeled images.

    Attributes:
      log_probabilities: float64 `[N, C]`, natural logarithms.
      labels: int `[N]`.
      groups: group of each image, `[N]`, such as its patient or slide; images of one
        group are not independent. None where all images are independent.
    """

    log_probabilities: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.log_probabilities.shape[1]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities float64 `[N, C]`."""
        return np.exp(self.log_probabilities)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """The likeliest class of each image, int `[N]`."""
        return self.log_probabilities.argmax(1)

    @functools.cached_property
    def confidence(self) -> np.ndarray:
        """The probability of each image's likeliest class, `[N]`."""
        return self.probabilities.max(1)

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """Whether the likeliest class is the label, bool `[N]`."""
        return self.predicted == self.labels

    def scaled(self, temperature: float) -> "Predictions":
        """Return predictions whose log probabilities are divided by a temperature.

        A temperature above 1 lowers the confidence. The likeliest classes stay.

        Source: Guo et al. 2017, On calibration of modern neural networks.
        """
        scaled = log_softmax(self.log_probabilities / temperature, axis=1)
        return dataclasses.replace(self, log_probabilities=scaled)


def average(members: Sequence[Predictions]) -> Predictions:
    """Return the predictions of an ensemble: the mean of its members' probabilities.

    Args:
      members: predictions of the same images, at least one.
    """
    stacked = np.stack([member.log_probabilities for member in members])
    mean = logsumexp(stacked, axis=0) - np.log(len(members))
    return dataclasses.replace(members[0], log_probabilities=mean)


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Return numbers of images by label (row) and predicted class (column)."""
    classes = predictions.classes
    pairs = predictions.labels * classes + predictions.predicted
    counts = np.bincount(pairs, minlength=classes**2)
    return counts.reshape(classes, classes)
