"""Risk against coverage: the errors that are left if the least sure go unanswered.

Source: El-Yaniv & Wiener 2010, On the foundations of noise-free selective
classification; Geifman et al. 2019 for the area under the curve.
"""

from typing import NamedTuple

import numpy as np

from hybrid_jax.evaluation.predictions import Predictions

RISKS = (0.01, 0.02, 0.05, 0.1)  # shares of errors that a user may want


class RiskCoverage(NamedTuple):
    """A curve; the images are taken from the surest one on.

    Attributes:
      coverage: shares of the images that are answered, rising to 1, `[n]`.
      risk: shares of errors among these, `[n]`.
      confidence: the least confidence among these, `[n]`.
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
        """Return the largest coverage with at most such a risk, and its confidence.

        It is 0, and no confidence, where even the surest answers have a higher risk.
        """
        rows = np.flatnonzero(self.risk <= risk)
        if not len(rows):
            return 0.0, None
        return float(self.coverage[rows[-1]]), float(self.confidence[rows[-1]])


def risk_coverage(predictions: Predictions) -> RiskCoverage:
    """Return the curve. Images of equal confidence are answered together."""
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
