"""Conformal prediction: what validation images guarantee for images drawn like them.

A new image and the n validation images are exchangeable, so its rank among them is
uniform, however good the network is. Two guarantees follow, each on average over images
and over draws of the validation images:

- A prediction set at the coverage 0.9 holds the true class of at least 90 % of images.
- At most 5 % of images have a typicality of 0.05 or less.

Neither holds for each class separately, for images of another instrument, or if images
depend on each other. The validation images also chose the checkpoint, which favors them
slightly.

If images have groups, such as patients, both hold for more images of the groups of the
validation images, not for images of other groups. The nearest neighbor of a validation
image is mostly of its own group. An image of a new group has no such neighbor there, so
its typicality is too small. Sets rest on as few independent cases as there are groups.

Sources: Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World;
Sadinle, Lei and Wasserman 2019, Least ambiguous set-valued classifiers with bounded
error levels.

Shapes: n validation images, N other images, C classes.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from hybrid_jax.errors import UserError, plural
from hybrid_jax.runs.temperature import check as check_temperature

CHUNK = 512  # images whose distances are computed at a time, to bound memory


@dataclasses.dataclass(frozen=True, eq=False)
class Conformal:
    """Scores of the validation images, which judge the scores of other images.

        run.conformal.sets(run.scores(images), coverage=0.9)
        run.conformal.typicality(run.scores(images))

    Attributes:
      scores: float32 `[n, C]`, whose softmax gives the probabilities.
      labels: int32 `[n]`.
    """

    scores: np.ndarray
    labels: np.ndarray

    def least_probability(self, coverage: float, temperature: float = 1.0) -> float:
        """Return the least probability of a class in a prediction set.

        It is the k-th largest of the probabilities that the network gives to the true
        classes of the validation images, with `k = ceil((n + 1) coverage)`.

        Args:
          coverage: share of images whose set is to hold the true class.
          temperature: divides scores.

        Raises:
          UserError: the coverage is not in (0, 1], or more than n images can guarantee;
            or the temperature is no finite number above 0.
        """
        images, most = len(self.labels), largest_coverage(len(self.labels))
        try:
            is_share = not isinstance(coverage, str) and 0 < float(coverage) <= 1
        except (TypeError, ValueError):
            is_share = False
        if not is_share:
            raise UserError(f"coverage {coverage} is no share of images: give 0.9, say")
        # Rounding alone may put a product such as 100 * 0.07 above 7.
        rank = max(math.ceil((images + 1) * coverage - 1e-9), 1)
        if rank > images:
            raise UserError(
                f"coverage {coverage:g} is more than "
                f"{plural(images, 'validation image')} can guarantee: give {most:g} at "
                "most, or train with more of them (config.data.validation)"
            )
        probabilities = _probabilities(self.scores, temperature)
        of_truth = probabilities[np.arange(images), self.labels]
        return float(np.partition(of_truth, images - rank)[images - rank])

    def sets(
        self, scores: np.ndarray, coverage: float, temperature: float = 1.0
    ) -> np.ndarray:
        """Return which classes are in the prediction set of each image, bool `[N, C]`.

        The most probable class is always in its set.

        Args:
          scores: `[N, C]`, from `Run.scores`.
          coverage: share of images whose set is to hold the true class.
          temperature: divides scores.

        Raises:
          UserError: as `least_probability`, or scores are of other classes, NaN
            or +inf.
        """
        scores = self._checked(scores)
        least = self.least_probability(coverage, temperature)
        probabilities = _probabilities(scores, temperature)
        included = probabilities >= least
        included[np.arange(len(included)), probabilities.argmax(1)] = True
        return included

    def typicality(self, scores: np.ndarray) -> np.ndarray:
        """Return the conformal p-value of each image, float64 `[N]` in (0, 1].

        A small value means that the scores of an image are unlike those of any
        validation image: it looks like none of the classes. The least value is
        `1 / (n + 1)`.

        The p-value compares distances between scores: from the image to the nearest
        validation image, and from each validation image to its nearest other. Full
        conformal prediction would add the image to the validation images. This can only
        shorten a distance to one that is at least the image's own, so the p-value is
        the same.

        Args:
          scores: `[N, C]`, from `Run.scores`.

        Raises:
          UserError: scores are of other classes, NaN or infinite.
        """
        scores = self._checked(scores, least=-np.inf)
        images = len(self.labels)
        nearest = _nearest(np.asarray(scores, np.float64), self._points)
        as_far = images - np.searchsorted(self._sorted_distances, nearest)
        return (1 + as_far) / (1 + images)

    def _checked(self, scores: Any, least: float | None = None) -> np.ndarray:
        """Return scores as numbers with fractions.

        Refuse scores of other classes, and those that are not below infinity.

        Args:
          scores: `[N, C]`.
          least: scores must be above it; None allows any.
        """
        classes = self.scores.shape[1]
        if isinstance(scores, np.ma.MaskedArray):
            raise UserError("scores are masked: leave out the images that lack some")
        try:
            scores = np.asarray(scores) * np.float32(1)
        except (TypeError, ValueError):
            raise UserError(
                "scores are no numbers: give what Run.scores returns"
            ) from None
        if np.ndim(scores) != 2 or np.shape(scores)[1] != classes:
            raise UserError(
                f"scores have the shape {np.shape(scores)}, but (images, {classes}) is "
                "needed: give what Run.scores returns"
            )
        is_good = scores < np.inf
        if least is not None:
            is_good &= scores > least
        has_any = np.max(scores, axis=1, initial=-np.inf) > -np.inf
        bad = np.flatnonzero(~(is_good.all(1) & has_any))
        if len(bad):
            raise UserError(
                f"the scores of {plural(len(bad), 'image')} are NaN or infinite, first "
                f"those of image {bad[0]:,}, counted from 0: leave them out"
            )
        return scores

    @functools.cached_property
    def _points(self) -> np.ndarray:
        return self.scores.astype(np.float64)

    @functools.cached_property
    def _sorted_distances(self) -> np.ndarray:
        """Return the distance of each validation image to its nearest other, sorted."""
        return np.sort(_nearest(self._points, self._points, is_same=True))


def _nearest(
    points: np.ndarray, others: np.ndarray, is_same: bool = False
) -> np.ndarray:
    """Return the distance of each point to the nearest of other points, `[N]`.

    Args:
      points: `[N, C]`.
      others: `[n, C]`.
      is_same: whether `others` are `points`; then each point leaves itself out, and one
        that is alone is infinitely far.
    """
    if is_same and len(points) == 1:
        return np.array([np.inf])
    found = np.empty(len(points))
    for first in range(0, len(points), CHUNK):
        part = points[first : first + CHUNK]
        squared = np.square(part).sum(1)[:, None] - 2 * part @ others.T
        squared += np.square(others).sum(1)
        if is_same:
            rows = np.arange(len(part))
            squared[rows, first + rows] = np.inf
        # `squared` is rounded: equal points must have a distance of exactly 0.
        nearest = others[squared.argmin(1)]
        found[first : first + CHUNK] = np.linalg.norm(part - nearest, axis=1)
    return found


def largest_coverage(images: int) -> float:
    """Return the largest coverage that n images can guarantee, rounded down."""
    return math.floor(images / (images + 1) * 1e4) / 1e4


def _probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities float64 `[N, C]` of scores `[N, C]`."""
    from scipy.special import softmax  # a fifth of a second, which training can spare

    divided = np.asarray(scores, np.float64) / check_temperature(temperature)
    return np.asarray(softmax(divided, axis=1))
