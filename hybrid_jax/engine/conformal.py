"""Conformal prediction: what validation images promise about images drawn like them.

A new image and the n validation images are exchangeable, so its rank among them is
uniform, whatever the network is worth. Two promises follow, each on average over images
and over draws of the validation images:

- A prediction set at the coverage 0.9 holds the true class of 90 % of images or more.
- A typicality of at most 0.05 is found for 5 % of images or fewer.

Neither holds for each class by itself, nor for images of another instrument, nor where
images depend on each other. The validation images also chose the checkpoint, which
favors them slightly.

Sources: Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World;
Sadinle, Lei and Wasserman 2019, Least ambiguous set-valued classifiers with bounded
error levels.

Shapes: n validation images, N other images, C classes.
"""

import dataclasses
import functools
import math

import numpy as np
from scipy.special import softmax

from hybrid_jax.errors import UserError, plural

CHUNK = 512  # images whose distances are computed at a time, to bound memory


@dataclasses.dataclass(frozen=True, eq=False)
class Conformal:
    """Judge scores of `Run.scores` by those of the validation images.

        run.conformal.sets(run.scores(images), coverage=0.9)
        run.conformal.typicality(run.scores(images))

    Attributes:
      scores: float32 `[n, C]`, whose softmax are probabilities.
      labels: int32 `[n]`.
    """

    scores: np.ndarray
    labels: np.ndarray

    def least_probability(self, coverage: float, temperature: float = 1.0) -> float:
        """Return the probability from which on a class belongs to a prediction set.

        It is the k-th largest of the probabilities that validation images give to their
        true classes, with `k = ceil((n + 1) coverage)`.

        Args:
          coverage: share of images whose set is to hold the true class.
          temperature: divides scores.

        Raises:
          UserError: the coverage is no share, or more than so few images can promise.
        """
        images, most = len(self.labels), largest_coverage(len(self.labels))
        if not 0 < coverage <= 1:
            raise UserError(f"coverage {coverage:g} is no share: give 0.9, say")
        # A product such as 100 * 0.07 may lie above 7 by its rounding alone.
        rank = math.ceil((images + 1) * coverage - 1e-9)
        if rank > images:
            raise UserError(
                f"coverage {coverage:g} is more than can be promised by "
                f"{plural(images, 'validation image')}: give {most:g} at most, or "
                "train with more of them (config.data.validation)"
            )
        probabilities = softmax(self.scores.astype(np.float64) / temperature, axis=1)
        of_truth = probabilities[np.arange(images), self.labels]
        return float(np.partition(of_truth, images - rank)[images - rank])

    def sets(
        self, scores: np.ndarray, coverage: float, temperature: float = 1.0
    ) -> np.ndarray:
        """Return which classes are in the prediction set of each image, bool `[N, C]`.

        The likeliest class always is.

        Args:
          scores: `[N, C]`, of `Run.scores`.
          coverage: share of images whose set is to hold the true class.
          temperature: divides scores.

        Raises:
          UserError: see `least_probability`.
        """
        least = self.least_probability(coverage, temperature)
        probabilities = softmax(np.asarray(scores, np.float64) / temperature, axis=1)
        included = probabilities >= least
        included[np.arange(len(included)), probabilities.argmax(1)] = True
        return included

    def typicality(self, scores: np.ndarray) -> np.ndarray:
        """Return the conformal p-value of each image, float64 `[N]` in (0, 1].

        A small one means that the network answers as it does to no validation image:
        the image looks like none of the classes. None is below `1 / (n + 1)`.

        It compares distances to the nearest validation image, between scores: that of
        the image, and those of the validation images from each other. With the image
        among them the latter would be at least as large as the former, or stay what
        they are, so the p-value is that of full conformal prediction.

        Args:
          scores: `[N, C]`, of `Run.scores`.
        """
        images = len(self.labels)
        nearest = _nearest(np.asarray(scores, np.float64), self._points)
        as_strange = images - np.searchsorted(self._spread, nearest)
        return (1 + as_strange) / (1 + images)

    @functools.cached_property
    def _points(self) -> np.ndarray:
        return self.scores.astype(np.float64)

    @functools.cached_property
    def _spread(self) -> np.ndarray:
        """Distances of validation images from the nearest other, ascending, `[n]`."""
        return np.sort(_nearest(self._points, self._points, is_same=True))


def _nearest(
    points: np.ndarray, others: np.ndarray, is_same: bool = False
) -> np.ndarray:
    """Return the distance of each point from the nearest of others, `[N]`.

    Args:
      points: `[N, C]`.
      others: `[n, C]`.
      is_same: whether others are the points, each of which leaves itself out.
    """
    found = np.empty(len(points))
    for first in range(0, len(points), CHUNK):
        part = points[first : first + CHUNK]
        squared = np.square(part).sum(1)[:, None] - 2 * part @ others.T
        squared += np.square(others).sum(1)
        if is_same:
            rows = np.arange(len(part))
            squared[rows, first + rows] = np.inf
        found[first : first + CHUNK] = squared.min(1)
    return np.sqrt(np.maximum(found, 0))


def largest_coverage(images: int) -> float:
    """Return the largest coverage that validation images can promise, rounded down."""
    return math.floor(images / (images + 1) * 1e4) / 1e4
