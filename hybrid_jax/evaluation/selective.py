"""Risk against coverage: errors that remain if a model answers only where it is sure.

Source: El-Yaniv & Wiener 2010, On the foundations of noise-free selective
classification; Geifman et al. 2019 for the area under the curve.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hybrid_jax.evaluation.bootstrap import Estimate, shares
from hybrid_jax.evaluation.predictions import Predictions

RISKS = (0.01, 0.02, 0.05, 0.1)  # shares of errors that users may accept


class Answered(NamedTuple):
    """The images that a model answers, if it needs some confidence.

    Attributes:
      images: how many they are.
      coverage: their share of all images.
      errors: how many of them are answered wrongly.
      confidence: the least confidence among them.
    """

    images: int
    coverage: float
    errors: int
    confidence: float


class RiskCoverage(NamedTuple):
    """A risk-coverage curve of `n` points, from the surest images to all images.

    Attributes:
      images: numbers of images that are answered, rising to all of them, `[n]`.
      errors: numbers of errors among the answered images, `[n]`.
      confidence: the least confidence among the answered images, `[n]`.
    """

    images: np.ndarray
    errors: np.ndarray
    confidence: np.ndarray

    @property
    def coverage(self) -> np.ndarray:
        """Shares of the images that are answered, `[n]`."""
        return self.images / self.images[-1]

    @property
    def risk(self) -> np.ndarray:
        """Shares of errors among the answered images, `[n]`."""
        return self.errors / self.images

    @property
    def area(self) -> float:
        """The mean risk over all coverages."""
        steps = np.diff(self.coverage, prepend=0.0)
        return float((steps * self.risk).sum())

    def point(self, row: int) -> Answered:
        """Return a point of the curve."""
        columns = self.images, self.coverage, self.errors, self.confidence
        return Answered(*(column[row].item() for column in columns))

    def answered(self, risk: float) -> Answered | None:
        """Return the point of the largest coverage whose risk is at most this.

        It is None where even the surest answers have a higher risk.
        """
        rows = np.flatnonzero(self.risk <= risk)
        return self.point(rows[-1]) if len(rows) else None


def risk_coverage(predictions: Predictions) -> RiskCoverage:
    """Return the risk-coverage curve; images of equal confidence share a point."""
    order = np.argsort(-predictions.confidence, kind="stable")
    confidence = predictions.confidence[order]
    answered = np.arange(1, len(order) + 1)
    errors = np.cumsum(~predictions.correct[order])
    is_last = np.append(confidence[1:] != confidence[:-1], True)
    return RiskCoverage(
        images=answered[is_last],
        errors=errors[is_last],
        confidence=confidence[is_last],
    )


def risks(
    predictions: Predictions, thresholds: Sequence[float] | np.ndarray
) -> list[Estimate]:
    """Return the risk at each threshold with its interval, see `bootstrap.shares`.

    Args:
      predictions: of at least one image.
      thresholds: least confidences of answered images, `[k]`.
    """
    is_answered = predictions.confidence[:, None] >= np.asarray(thresholds)
    is_wrong = is_answered & ~predictions.correct[:, None]
    return shares(is_wrong, is_answered, predictions.groups)
