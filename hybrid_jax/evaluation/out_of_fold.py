"""Predictions of each training image by runs that did not train on it.

Shapes: N images, C classes.
"""

import collections
import csv
import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.csv_text import csv_text
from hybrid_jax.data import Split, Splits
from hybrid_jax.errors import UserError, escape, first_line, listed, plural
from hybrid_jax.evaluation.predictions import Predictions, average
from hybrid_jax.json_files import write_whole
from hybrid_jax.prediction.rows import class_columns
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import open_run

CSV = "out_of_fold.csv"
COLUMNS = ("path", "label", "predicted", "fold", "group")
LEAST = np.finfo(np.float64).tiny  # least probability, whose logarithm is finite


@dataclasses.dataclass(frozen=True, eq=False)
class OutOfFold:
    """Predictions of each image by the cross-validation runs that left it out.

    Attributes:
      classes: names, in the order of the labels, in printable form.
      names: names of the images' files or records, in printable form.
      folds: the fold that left out each image, int `[N]`, from 1.
      predictions: of the images; the mean over the seeds of a fold.
      notes: runs that are left out, and images not predicted exactly once, in words.
      data_notes: notes on the data that all folds share, such as images in no fold.
    """

    classes: tuple[str, ...]
    names: list[str]
    folds: np.ndarray
    predictions: Predictions
    notes: tuple[str, ...] = ()
    data_notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def by_fold(self) -> Iterator[Predictions]:
        """Yield the predictions of each fold, in order."""
        found, groups = self.predictions, self.predictions.groups
        for fold in np.unique(self.folds):
            rows = self.folds == fold
            yield Predictions(
                found.log_probabilities[rows],
                found.labels[rows],
                None if groups is None else groups[rows],
            )


class _Images:
    """Names of the images of all folds, and counts of those that are predicted."""

    def __init__(self) -> None:
        self._expected: dict[str, None] = {}
        self._predicted: collections.Counter[str] = collections.Counter()
        self._notes: list[tuple[str, ...]] = []

    def expect(self, splits: Splits) -> None:
        """Add the images that a fold trains on or leaves out."""
        for name in ("train", "validation"):
            self._expected |= dict.fromkeys(map(escape, splits[name].names))
        self._notes.append(splits.notes)

    def predicted(self, names: Sequence[str]) -> None:
        """Add images that are predicted."""
        self._predicted.update(names)

    @property
    def data_notes(self) -> tuple[str, ...]:
        """The notes that the data of all folds share."""
        first, *others = self._notes
        return tuple(n for n in first if all(n in more for more in others))

    def notes(self) -> list[str]:
        """Return notes on images that are not predicted exactly once."""
        missing = [name for name in self._expected if name not in self._predicted]
        often = [name for name, count in self._predicted.items() if count > 1]
        return [
            f"{plural(len(names), 'training image')} {what}: {listed(names)}"
            for names, what in (
                (missing, "without a prediction"),
                (often, "predicted more than once"),
            )
            if names
        ]


def predict(runs: Mapping[Path, int], say: Callable[[str], None]) -> OutOfFold:
    """Predict the images that each fold left out, with the runs of that fold.

    Args:
      runs: the fold of each run's folder, from 1; runs of a fold differ in their seed,
        and the fold is their validation split.
      say: prints a line.

    Returns:
      The predictions; the notes name runs that cannot be opened, and images that are
      not predicted exactly once.

    Raises:
      UserError: no run can be opened with its images.
    """
    images, parts = _Images(), {}
    notes: list[str] = []
    for fold in sorted({*runs.values()}):
        say(f"Predicting the images that fold {fold} left out")
        paths = [path for path, number in runs.items() if number == fold]
        found = _predict_fold(paths, images, notes, say)
        if found is not None:
            parts[fold] = found
    if not parts:
        raise UserError(f"no image can be predicted: {listed(notes, 1)}")
    notes += images.notes()
    return OutOfFold(
        classes=next(iter(parts.values())).classes,
        names=[name for part in parts.values() for name in part.names],
        folds=np.repeat([*parts], [len(part.names) for part in parts.values()]),
        predictions=_concatenated([part.predictions for part in parts.values()]),
        notes=tuple(notes),
        data_notes=images.data_notes,
    )


class _Fold(NamedTuple):
    """Predictions of the images that one fold left out, averaged over its runs."""

    classes: tuple[str, ...]
    names: list[str]
    predictions: Predictions


def _predict_fold(
    paths: Sequence[Path],
    images: _Images,
    notes: list[str],
    say: Callable[[str], None],
) -> _Fold | None:
    """Return the mean over the runs of a fold; None if none of them can be opened.

    Args:
      paths: folders of the runs.
      images: receives the images of the fold, and those that are predicted.
      notes: receives a line for each run that cannot be opened.
      say: prints a line, such as the note of a run on a checkpoint that is skipped.
    """
    members: list[Predictions] = []
    split: Split | None = None
    classes: tuple[str, ...] = ()
    for path in paths:
        try:
            run = open_run(RunFolder(path), None, {})
            for note in run.notes:
                say(note)
            if split is None:  # the same split in all runs, which differ in seed alone
                images.expect(run.splits)
                split = run.get_split("validation")
                classes = tuple(map(escape, run.classes))
            scores = run.log_probabilities(split).astype(np.float64)
        except UserError as error:
            notes.append(f"{path.name} is left out: {first_line(error)}")
            continue
        members.append(Predictions(scores, split.labels, split.groups))
        del run
        gc.collect()  # frees its weights, which are in reference cycles
    if split is None or not members:
        return None
    names = [escape(name) for name in split.names]
    images.predicted(names)
    return _Fold(classes, names, average(members))


def _concatenated(parts: Sequence[Predictions]) -> Predictions:
    groups = [part.groups for part in parts if part.groups is not None]
    return Predictions(
        np.concatenate([part.log_probabilities for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(groups).astype(str) if len(groups) == len(parts) else None,
    )


def write_csv(found: OutOfFold, path: Path) -> None:
    """Write a CSV line for each image; the file is written completely or not at all."""
    predictions, classes = found.predictions, found.classes
    groups = predictions.groups
    lines: list[list] = [[*COLUMNS, *class_columns(classes, COLUMNS)]]
    for row, name in enumerate(found.names):
        label, best = predictions.labels[row], predictions.predicted[row]
        group = "" if groups is None else escape(str(groups[row]))
        numbers = [f"{p:.9g}" for p in predictions.probabilities[row].tolist()]
        about = [name, classes[label], classes[best], found.folds[row], group]
        lines.append([*about, *numbers])
    write_whole(path, csv_text(lines))


def read_csv(path: Path) -> OutOfFold:
    """Read predictions that `write_csv` has written.

    Raises:
      OSError, ValueError, KeyError, IndexError: the file is missing, or `write_csv`
        has not written it.
    """
    with path.open(encoding="utf-8", newline="") as file:
        try:
            header, *lines = csv.reader(file)
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from None
    if tuple(header[: len(COLUMNS)]) != COLUMNS:
        raise ValueError(f"{path} has other columns")
    columns = dict(zip(class_columns(COLUMNS, COLUMNS), COLUMNS, strict=True))
    classes = [columns.get(name, name) for name in header[len(COLUMNS) :]]
    number = {name: label for label, name in enumerate(classes)}
    names, labels, _, folds, groups, *_ = zip(*lines, strict=True)
    numbers = np.array([line[len(COLUMNS) :] for line in lines], np.float64)
    return OutOfFold(
        classes=tuple(classes),
        names=[*names],
        folds=np.array(folds, int),
        predictions=Predictions(
            np.log(np.maximum(numbers, LEAST)),
            np.array([number[name] for name in labels]),
            np.array(groups) if any(groups) else None,
        ),
    )


def open_images(run_folder: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Decode a few images of the folds, uint8 `[h, w, C]` each.

    Args:
      run_folder: folder of any of the runs.
      names: names of the images, in printable form.

    Raises:
      UserError: the images are no longer there.
    """
    splits = open_run(RunFolder(run_folder), None, {}).splits
    places = {
        escape(name): (split, row)
        for split in (splits["train"], splits["validation"])
        for row, name in enumerate(split.names)
    }
    if gone := [name for name in names if name not in places]:
        raise UserError(f"the data no longer have the images {listed(gone)}")
    return [split.image(row) for split, row in (places[name] for name in names)]
