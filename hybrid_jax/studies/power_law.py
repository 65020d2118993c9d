"""Fit how the error falls with the number of images: error = a * images**-b."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

FEWEST_POINTS = 3  # a line through two has no uncertainty


class PowerLaw(NamedTuple):
    """A law of the error, with the 95 % interval of its exponent.

    Attributes:
      factor: the error at one image, `a`.
      exponent: `b`; twice the images multiply the error by `2**-b`.
      low: of the exponent.
      high: of the exponent.
    """

    factor: float
    exponent: float
    low: float
    high: float

    def error(self, images: float | np.ndarray) -> float | np.ndarray:
        """Return the error at a number of images, a share of 1."""
        return self.factor * images**-self.exponent

    def images_for(
        self, error: float, images: float, wanted: float
    ) -> tuple[float, float, float]:
        """Return how many images an error would take, at most likely, least and most.

        The law is moved to go through a measured point, so only the exponent counts.

        Args:
          error: measured, above `wanted`.
          images: where it was measured.
          wanted: the error asked for.

        Returns:
          Numbers of images; infinite where the error may not fall.
        """
        ratio = error / wanted
        return (
            _images(ratio, images, self.exponent),
            _images(ratio, images, self.high),
            _images(ratio, images, self.low),
        )


def _images(ratio: float, images: float, exponent: float) -> float:
    if exponent <= 0:
        return math.inf
    logarithm = math.log(images) + math.log(ratio) / exponent
    return math.exp(logarithm) if logarithm < math.log(1e12) else math.inf


def fit_power_law(images: Sequence[float], errors: Sequence[float]) -> PowerLaw | None:
    """Fit a power law by least squares of the logarithms (Hestness et al. 2017).

    The interval is Student's, of the points' scatter around the law. So it also tells
    of what is no power law.

    Args:
      images: at three numbers of images or more.
      errors: mean errors there, shares of 1.

    Returns:
      The law; None of fewer points, or of an error that is 0.
    """
    if len(images) < FEWEST_POINTS or min(errors) <= 0:
        return None
    found = stats.linregress(np.log(images), np.log(errors))
    half = float(stats.t.ppf(0.975, len(images) - 2) * found.stderr)
    slope = float(found.slope)
    return PowerLaw(
        math.exp(float(found.intercept)), -slope, -slope - half, -slope + half
    )
