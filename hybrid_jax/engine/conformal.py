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
from scipy.special import logsumexp, softmax

from hybrid_jax.errors import UserError, plural


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

        It is the share of validation images, and of the image itself, that look as
        strange or stranger. A small one means that an image looks like none of the
        classes; none is below `1 / (n + 1)`.

        Args:
          scores: `[N, C]`, of `Run.scores`.
        """
        as_strange = np.searchsorted(self._evidence, evidence(scores), side="right")
        return (1 + as_strange) / (1 + len(self._evidence))

    @functools.cached_property
    def _evidence(self) -> np.ndarray:
        return np.sort(evidence(self.scores))


def evidence(scores: np.ndarray) -> np.ndarray:
    """Return how much an image looks like any of the classes, float64 `[N]`.

    It is the negative energy of Liu et al. 2020, Energy-based out-of-distribution
    detection: the logarithm of the sum of the exponentials of the scores.

    Args:
      scores: `[N, C]`, of `Run.scores`.
    """
    return logsumexp(np.asarray(scores, np.float64), axis=1)


def largest_coverage(images: int) -> float:
    """Return the largest coverage that validation images can promise, rounded down."""
    return math.floor(images / (images + 1) * 1e4) / 1e4
