"""Choose each method's parameters on validation images, train it again, and test it."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid, StratifiedKFold

from hybrid_jax.baselines.features import Features
from hybrid_jax.baselines.images import feature_size, shrink_images
from hybrid_jax.baselines.methods import BASELINES, Baseline
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import Splits, load
from hybrid_jax.data.subsets import stratified_subset
from hybrid_jax.errors import UserError, plural

FOLDS = 5
CONFIDENCE = 0.95
BLOCK = 1000  # test images at once: kernels of all would not fit in memory


class Part(NamedTuple):
    """Images float32 `[N, h, w, C]` from 0 to 255, and labels `[N]`."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> "Part":
        """Return some of the images."""
        return Part(self.images[rows], self.labels[rows])

    def join(self, other: "Part") -> "Part":
        """Return these images and others."""
        return Part(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


class Result(NamedTuple):
    """What a method reached.

    Attributes:
      method: key of `BASELINES`.
      title: of the method.
      parameters: those that were best on validation images.
      validation_accuracy: of these, trained without the validation images; of
        cross-validation, the mean over folds.
      test_accuracy: of the method trained again on all; None without a test split.
      test_interval: its 95 % Wilson interval; None likewise.
      train_images: that it was trained on in the end.
      seconds: to choose, train and test.
      notes: what was left out or did not converge.
    """

    method: str
    title: str
    parameters: dict[str, Any]
    validation_accuracy: float
    test_accuracy: float | None
    test_interval: tuple[float, float] | None
    train_images: int
    seconds: float
    notes: tuple[str, ...]


class Report(NamedTuple):
    """The results on a data set.

    Attributes:
      data: its name.
      images: how many each split has.
      image_size: `(height, width)` that methods saw.
      chosen_on: what the parameters were chosen on, in words.
      trained_on: what each method was trained on in the end, in words.
      notes: on the data.
      results: a method each.
    """

    data: str
    images: dict[str, int]
    image_size: tuple[int, int]
    chosen_on: str
    trained_on: str
    notes: tuple[str, ...]
    results: list[Result]


def run_baselines(
    config: DataConfig,
    seed: int,
    methods: Sequence[str],
    report: Callable[[str], Any] = lambda _: None,
) -> Report:
    """Run some methods on a data set, on its splits as training has them.

    Args:
      config: of the data set.
      seed: of random features, folds and subsets.
      methods: keys of `BASELINES`.
      report: told what is being done.

    Raises:
      UserError: the data set cannot be loaded, or has only one class.
    """
    report("loading data")
    splits = load(config)
    size = feature_size(splits, config)
    parts = {
        name: Part(shrink_images(split, size, config, name), split.labels)
        for name, split in splits.items()
    }
    _check_classes(splits)
    chosen_on = (
        f"{len(splits['validation']):,} validation images"
        if "validation" in splits
        else f"{_count_folds(splits.train.labels)}-fold cross-validation"
    )
    return Report(
        splits.name,
        {name: len(split) for name, split in splits.items()},
        size,
        chosen_on,
        "training and validation images"
        if "validation" in splits
        else "all training images",
        splits.notes,
        [_run(name, parts, seed, report) for name in methods],
    )


def _check_classes(splits: Splits) -> None:
    counts = np.bincount(splits.train.labels, minlength=len(splits.classes))
    if np.count_nonzero(counts) < 2 or len(splits.train) < 2 * FOLDS:
        raise UserError(
            f"{splits.name} has {len(splits.train):,} training images of "
            f"{np.count_nonzero(counts)} classes: baselines need at least two classes "
            f"and {2 * FOLDS} images"
        )
    if "validation" not in splits and counts.max() < 2:
        raise UserError(
            f"{splits.name} has one training image a class and no validation split: "
            "there is nothing to choose parameters on"
        )


def _run(
    name: str, parts: dict[str, Part], seed: int, report: Callable[[str], Any]
) -> Result:
    """Choose parameters of a method, train it on all, and test it."""
    baseline, start = BASELINES[name], time.perf_counter()
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        report(f"{baseline.title}: choosing parameters")
        parameters, validation_accuracy = _choose(baseline, parts, seed, notes)
        report(f"{baseline.title}: training and testing")
        train = parts["train"]
        if "validation" in parts:
            train = train.join(parts["validation"])
        train = _limit(train, baseline, seed, notes)
        features = baseline.features(train.images, seed)
        model = _train(baseline, parameters, features(train.images), train.labels)
        accuracy, interval = None, None
        if "test" in parts:
            right = _count_right(model, features, parts["test"])
            accuracy, interval = _tested(right, len(parts["test"].labels))
    stopped = sum(issubclass(w.category, ConvergenceWarning) for w in caught)
    if stopped:
        notes.append(f"{plural(stopped, 'fit')} stopped before convergence")
    return Result(
        name,
        baseline.title,
        parameters,
        validation_accuracy,
        accuracy,
        interval,
        len(train.labels),
        time.perf_counter() - start,
        tuple(dict.fromkeys(notes)),
    )


def _tested(right: int, count: int) -> tuple[float, tuple[float, float]]:
    """Return an accuracy and its Wilson interval."""
    interval = binomtest(right, count).proportion_ci(CONFIDENCE, method="wilson")
    return right / count, (float(interval.low), float(interval.high))


def _choose(
    baseline: Baseline, parts: dict[str, Part], seed: int, notes: list[str]
) -> tuple[dict[str, Any], float]:
    """Return the best parameters, the first of equals, and their accuracy."""
    folds, scores = list(_folds(parts, seed)), []
    fewest = min(len(train.labels) for train, _ in folds)
    candidates = [
        parameters
        for parameters in ParameterGrid(dict(baseline.grid))
        if parameters.get("n_neighbors", 0) <= fewest
    ]
    for train, validation in folds:
        train = _limit(train, baseline, seed, notes)
        features = baseline.features(train.images, seed)
        x, held = features(train.images), features(validation.images)
        scores.append(
            [
                _train(baseline, parameters, x, train.labels).score(
                    held, validation.labels
                )
                for parameters in candidates
            ]
        )
    means = np.mean(scores, axis=0)
    best = int(np.argmax(means))
    return candidates[best], float(means[best])


def _folds(parts: dict[str, Part], seed: int) -> Iterator[tuple[Part, Part]]:
    """Yield what to train on and what to validate on."""
    train = parts["train"]
    if "validation" in parts:
        yield train, parts["validation"]
        return
    folds = StratifiedKFold(_count_folds(train.labels), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class of fewer images than folds lacks in some of them.
        warnings.simplefilter("ignore", UserWarning)
        divided = list(folds.split(train.labels, train.labels))
    for fitted, held in divided:
        yield train.take(fitted), train.take(held)


def _count_folds(labels: np.ndarray) -> int:
    """Return 5, or fewer where no class has as many images."""
    return max(2, min(FOLDS, int(np.bincount(labels).max())))


def _limit(part: Part, baseline: Baseline, seed: int, notes: list[str]) -> Part:
    """Return a share of each class, and note it, where all would take long."""
    count = len(part.labels)
    if count <= baseline.most:
        return part
    rows = stratified_subset(part.labels, baseline.most / count, 0, seed)
    notes.append(f"{len(rows):,} of {count:,} training images, alike of each class")
    return part.take(rows)


def _train(
    baseline: Baseline, parameters: dict[str, Any], x: np.ndarray, labels: np.ndarray
) -> Any:
    """Return a classifier that is trained on features `[N, F]`."""
    return clone(baseline.classifier()).set_params(**parameters).fit(x, labels)


def _count_right(model: Any, features: Features, part: Part) -> int:
    """Return how many images are classified right, block by block."""
    return sum(
        int((model.predict(features(part.images[i : i + BLOCK])) == labels).sum())
        for i in range(0, len(part.labels), BLOCK)
        for labels in [part.labels[i : i + BLOCK]]
    )
