"""Risk against coverage: errors that remain if a model answers only where it is sure.

Source: El-Yaniv & Wiener 2010, On the foundations of noise-free selective
classification; Geifman et al. 2019 for the area under the curve.
"""

from typing import NamedTuple

import numpy as np

from hybrid_jax.evaluation.predictions import Predictions

RISKS = (0.01, 0.02, 0.05, 0.1)  # shares of errors that users may accept


class RiskCoverage(NamedTuple):
    """A risk-coverage curve of `n` points, from the surest images to all images.

    Attributes:
      coverage: shares of the images that are answered, rising to 1, `[n]`.
      risk: shares of errors among the answered images, `[n]`.
      confidence: the least confidence among the answered images, `[n]`.
    """

    coverage: np.ndarray
    risk: np.ndarray
    confidence: np.ndarray

    @property
    def area(self) -> float:
        """The mean risk over all coverages."""
        steps = np.diff(self.coverage, prepend=0.0)
        return float((steps * self.risk).sum())

    def answered(self, risk: float) -> tuple[float, float | None]:
        """Return the largest coverage of at most this risk, and its least confidence.

        The result is `(0, None)` where even the surest answers have a higher risk.
        """
        rows = np.flatnonzero(self.risk <= risk)
        if not len(rows):
            return 0.0, None
        return float(self.coverage[rows[-1]]), float(self.confidence[rows[-1]])


def risk_coverage(predictions: Predictions) -> RiskCoverage:
    """Return the risk-coverage curve; images of equal confidence share a point."""
    order = np.argsort(-predictions.confidence, kind="stable")
    confidence = predictions.confidence[order]
    answered = np.arange(1, len(order) + 1)
    errors = np.cumsum(~predictions.correct[order])
    is_last = np.append(confidence[1:] != confidence[:-1], True)
    return RiskCoverage(
        coverage=(answered / len(order))[is_last],
        risk=(errors / answered)[is_last],
        confidence=confidence[is_last],
    )
