"""Fit how the error falls with the number of images: error = a * images**-b."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

FEWEST_POINTS = 3  # a line through two points shows no uncertainty


class PowerLaw(NamedTuple):
    """A power law of the error, with the 95 % interval of its exponent.

    Attributes:
      factor: `a`, the error at one image.
      exponent: `b`; twice as many images multiply the error by `2**-b`.
      low: lower end of the interval of the exponent.
      high: upper end of the interval of the exponent.
    """

    factor: float
    exponent: float
    low: float
    high: float

    def error(self, images: float | np.ndarray) -> float | np.ndarray:
        """Return the error, a share of 1, at a number of images."""
        return self.factor * images**-self.exponent

    def images_for(
        self, error: float, images: float, wanted: float
    ) -> tuple[float, float, float]:
        """Return the number of images that an error would take: likely, least and most.

        The law is shifted to go through a measured point, so only the exponent counts.

        Args:
          error: measured error, above `wanted`.
          images: number of images at which it was measured.
          wanted: error to reach.

        Returns:
          The number of images for the exponent and both ends of its interval; infinite
          if the error may not fall.
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

    The interval is Student's, from the scatter of the points around the law. So it is
    also wide if the points do not follow a power law.

    Args:
      images: three numbers of images or more.
      errors: mean error at each number of images, a share of 1.

    Returns:
      The law; None for fewer points, or if an error is 0.
    """
    if len(images) < FEWEST_POINTS or min(errors) <= 0:
        return None
    found = stats.linregress(np.log(images), np.log(errors))
    # Of equal errors, SciPy returns NaN, though they scatter by nothing.
    stderr = 0.0 if math.isnan(found.stderr) else float(found.stderr)
    half = float(stats.t.ppf(0.975, len(images) - 2)) * stderr
    slope = float(found.slope)
    return PowerLaw(
        math.exp(float(found.intercept)), -slope, -slope - half, -slope + half
    )
