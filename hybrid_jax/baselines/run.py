"""Choose the parameters of each method on validation images, train it, and test it."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ParameterGrid, StratifiedKFold

from hybrid_jax.baselines.features import Features
from hybrid_jax.baselines.images import feature_size, shrink_images
from hybrid_jax.baselines.methods import BASELINES, Baseline
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import Splits, load
from hybrid_jax.data.subsets import group_fold, stratified_subset
from hybrid_jax.errors import UserError, plural
from hybrid_jax.evaluation.bootstrap import Ends, accuracy_interval

FOLDS = 5
BLOCK = 1000  # test images at once; the kernel of all would not fit in memory


class Part(NamedTuple):
    """Images, float32 `[N, h, w, C]` from 0 to 255, labels `[N]`, and groups `[N]`.

    Groups are None where there are none.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Part":
        """Return the images at some rows, with their labels, without groups."""
        return Part(self.images[rows], self.labels[rows])

    def join(self, other: "Part") -> "Part":
        """Return these images and those of another part, without groups."""
        return Part(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.labels, other.labels]),
        )


class Result(NamedTuple):
    """The result of a method.

    Attributes:
      method: key of `BASELINES`.
      title: name of the method in tables.
      parameters: parameters that were best on validation images.
      validation_accuracy: accuracy of these parameters, trained without the validation
        images; with cross-validation, the mean over folds.
      test_accuracy: accuracy after training again on training and validation images;
        None without a test split.
      test_interval: 95 % interval of it, over images or groups of images; None without
        a test split, and of None where there is no interval.
      train_images: number of images in the last training.
      seconds: time to choose, train and test.
      notes: what was left out or did not converge.
    """

    method: str
    title: str
    parameters: dict[str, Any]
    validation_accuracy: float
    test_accuracy: float | None
    test_interval: Ends | None
    train_images: int
    seconds: float
    notes: tuple[str, ...]


class Report(NamedTuple):
    """The results of all methods on a data set.

    Attributes:
      data: name of the data set.
      images: number of images in each split.
      image_size: `(height, width)` of the images that methods were given.
      chosen_on: images that the parameters were chosen on, in words.
      trained_on: images of the last training, in words.
      notes: notes on the data.
      results: one result for each method.
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
    """Run methods on a data set, with the same splits as training.

    Args:
      config: config of the data set.
      seed: seed of random features, folds and subsets.
      methods: keys of `BASELINES`.
      report: called with a line about the current work.

    Raises:
      UserError: the data set cannot be loaded, or has only one class.
    """
    report("loading data")
    splits = load(config)
    size = feature_size(splits, config)
    parts = {
        name: Part(shrink_images(split, size, config, name), split.labels, split.groups)
        for name, split in splits.items()
    }
    _check_classes(splits)
    folds = [*_folds(parts, seed)]
    used = [fold for fold in folds if len({*fold[0].labels.tolist()}) > 1]
    if not used:
        raise UserError(
            "without a validation split, no fold of the training images has two "
            "classes to train on: give a validation split, or images of more groups"
        )
    return Report(
        splits.name,
        {name: len(split) for name, split in splits.items()},
        size,
        _chosen_on(parts, folds, used),
        "training and validation images"
        if "validation" in splits
        else "all training images",
        splits.notes,
        [_run(name, parts, used, seed, report) for name in methods],
    )


def _chosen_on(
    parts: Mapping[str, Part],
    folds: Sequence[tuple[Part, Part]],
    used: Sequence[tuple[Part, Part]],
) -> str:
    """Say in words which images choose parameters.

    Args:
      parts: the images of each split.
      folds: images to train on and to validate on, in each fold.
      used: the folds that have two classes to train on.
    """
    if "validation" in parts:
        return f"{len(parts['validation'].labels):,} validation images"
    text = f"{len(folds)}-fold cross-validation"
    if parts["train"].groups is not None:
        text += ", with each group in one fold"
    if left_out := len(folds) - len(used):
        validated = sum(len(held.labels) for _, held in used)
        text += (
            f"; {plural(left_out, 'fold')} left out, with a single class to train on, "
            f"so that {validated:,} of {plural(len(parts['train'].labels), 'image')} "
            "are validated"
        )
    return text


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
    groups = splits.train.groups
    if "validation" not in splits and groups is not None and len({*groups}) < 2:
        raise UserError(
            f"all {len(groups):,} training images of {splits.name} are of one group, "
            "which cross-validation cannot divide: give a validation split"
        )


def _run(
    name: str,
    parts: dict[str, Part],
    folds: list[tuple[Part, Part]],
    seed: int,
    report: Callable[[str], Any],
) -> Result:
    """Choose the parameters of a method, train it again, and test it."""
    baseline, start = BASELINES[name], time.perf_counter()
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        report(f"{baseline.title}: choosing parameters")
        parameters, validation_accuracy = _choose(baseline, folds, seed, notes)
        report(f"{baseline.title}: training and testing")
        train = parts["train"]
        if "validation" in parts:
            train = train.join(parts["validation"])
        train = _limit(train, baseline, seed, notes)
        features = baseline.features(train.images, seed)
        model = _train(baseline, parameters, features(train.images), train.labels)
        accuracy, interval = None, None
        if "test" in parts:
            right = _is_right(model, features, parts["test"])
            accuracy = float(right.mean())
            interval = accuracy_interval(right, parts["test"].groups)
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


def _choose(
    baseline: Baseline, folds: list[tuple[Part, Part]], seed: int, notes: list[str]
) -> tuple[dict[str, Any], float]:
    """Return the best parameters, of equal ones the first, and their accuracy."""
    scores = []
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
    """Yield images to train on and images to validate on; each group is in one fold."""
    train = parts["train"]
    groups = train.groups
    if "validation" in parts:
        yield train, parts["validation"]
        return
    count = _count_folds(train.labels, groups)
    if groups is not None:
        for number in range(1, count + 1):
            held = group_fold(train.labels, groups, number, count, seed)
            yield train.take(~held), train.take(held)
        return
    folds = StratifiedKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer images than folds is missing in some of them.
        warnings.simplefilter("ignore", UserWarning)
        divided = list(folds.split(train.labels, train.labels))
    for fitted, held in divided:
        yield train.take(fitted), train.take(held)


def _count_folds(labels: np.ndarray, groups: np.ndarray | None) -> int:
    """Return `FOLDS`, or fewer for few images or groups, but at least 2."""
    most = int(np.bincount(labels).max())
    if groups is not None:
        most = min(most, len({*groups}))
    return max(2, min(FOLDS, most))


def _limit(part: Part, baseline: Baseline, seed: int, notes: list[str]) -> Part:
    """Return a share of each class, with a note, if all images would take too long."""
    count = len(part.labels)
    if count <= baseline.most:
        return part
    rows = stratified_subset(part.labels, baseline.most / count, 0, seed)
    notes.append(
        f"{len(rows):,} of {count:,} training images, the same share of each class"
    )
    return part.take(rows)


def _train(
    baseline: Baseline, parameters: dict[str, Any], x: np.ndarray, labels: np.ndarray
) -> Any:
    """Return a classifier trained on features `[N, F]` and labels `[N]`."""
    return clone(baseline.classifier()).set_params(**parameters).fit(x, labels)


def _is_right(model: Any, features: Features, part: Part) -> np.ndarray:
    """Return which images are classified correctly, bool `[N]`, block by block."""
    starts = range(0, len(part.labels), BLOCK)
    blocks = [model.predict(features(part.images[i : i + BLOCK])) for i in starts]
    return np.concatenate(blocks) == part.labels
