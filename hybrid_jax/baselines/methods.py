"""A table of the methods: features, classifier, and parameters to choose from."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hybrid_jax.baselines.features import Features, pixels, random_patches


class Baseline(NamedTuple):
    """A row of `BASELINES`.

    Attributes:
      title: name in tables.
      features: maps training images and a seed to a function from images to features;
        it sees no labels.
      classifier: creates an untrained classifier of scikit-learn.
      grid: values of the classifier's parameters to choose from.
      most: largest number of training images; others are left out to save time.
    """

    title: str
    features: Callable[[np.ndarray, int], Features]
    classifier: Callable[[], BaseEstimator]
    grid: Mapping[str, Sequence[Any]]
    most: int


class RbfSvm(SVC):
    """An SVM whose RBF kernel is a matrix product, many times as fast as libsvm's."""

    def __init__(self, C: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__(C=C, gamma=gamma)

    def fit(self, X: np.ndarray, y: np.ndarray) -> "RbfSvm":
        """Train on features `[N, F]` and labels `[N]`."""
        self.kernel = partial(rbf_kernel, gamma=self.gamma)
        return super().fit(X, y)


# On two cores, each method takes a few minutes for `most` images of 32x32 px.
BASELINES: dict[str, Baseline] = {
    "knn": Baseline(
        "k nearest neighbors",
        pixels,
        KNeighborsClassifier,
        {"n_neighbors": (1, 3, 5, 7, 11, 21), "weights": ("uniform", "distance")},
        most=20_000,
    ),
    "svm": Baseline(
        "SVM, RBF kernel",
        pixels,
        RbfSvm,
        {"C": (1, 3, 10, 30), "gamma": (0.25, 0.5, 1, 2, 4)},
        most=5_000,
    ),
    "logistic": Baseline(
        "logistic regression",
        pixels,
        partial(LogisticRegression, max_iter=1000),
        {"C": (0.1, 1, 10, 100)},
        most=10_000,
    ),
    "patches": Baseline(
        "random features, ridge",
        random_patches,
        lambda: make_pipeline(StandardScaler(), RidgeClassifier()),
        {"ridgeclassifier__alpha": (10, 100, 1e3, 1e4, 1e5)},
        most=10_000,
    ),
}
