"""Which images are trained on, validated on and tested on.

The splits that a source has stay what they are. A part of the training images may be
used alone (`fraction`, `per_class`), and a part of those is for validation where the
source has no such split: a share, or a fold.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import group_splitting as grouped
from hybrid_jax.data import subsets
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.errors import UserError, counted, shown

DEFAULT = DataConfig.validation
NAMED_AT_MOST = 5
ALL = "--config.data.validation=0 trains on all"


class Part(NamedTuple):
    """Images of one of a source's splits: its name, and rows int64 `[n]` of it."""

    source: str
    rows: np.ndarray


def used_splits(given: Mapping[str, int], options: DataConfig) -> tuple[str, ...]:
    """Which of a source's splits are used.

    Args:
      given: images of each split that the source has.
      options: of the data set.

    Raises:
      UserError: there is a validation split, and `config.data.validation` asks for
        another.
    """
    if "validation" in given and options.validation not in (DEFAULT, 0):
        raise UserError(
            f"config.data.validation={options.validation}: the data set has a "
            f"validation split of its own, of {counted(given['validation'], 'image')}; "
            "leave the field out to use it, or 0 to leave the split out"
        )
    if options.validation == 0:
        return tuple(name for name in given if name != "validation")
    return tuple(given)


def left_out_note(count: int) -> str:
    """What is said of a validation split that is not used."""
    return (
        f"{counted(count, 'image')} of the validation split left out "
        "(config.data.validation=0)"
    )


def divide(
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    options: DataConfig,
    groups: np.ndarray | None = None,
    unused: Mapping[str, int] | None = None,
) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Divides the images of a source.

    Args:
      labels: int32 `[N]` of each split that is used; one is `train`.
      classes: names.
      options: of the data set.
      groups: of the training images, `[N]`; None where there are none.
      unused: how many images the splits have that are not used.

    Returns:
      A part for each split of the result, and notes.

    Raises:
      UserError: names the class of which nothing would be left to train on.
    """
    rows, notes = _left_in(labels, options, unused or {})
    given, rows_of = labels["train"][rows["train"]], rows["train"]
    chosen = subsets.subset(
        given, options.fraction, options.per_class, options.split_seed
    )
    if len(chosen) < len(given):
        notes += (f"{len(chosen):,} of {len(given):,} training images are used",)
    parts = {name: Part(name, of) for name, of in rows.items()}
    parts["train"] = Part("train", rows_of[chosen])
    if "validation" not in parts and options.validation:
        of = None if groups is None else groups[rows_of[chosen]]
        places = subsets.ranks(given, options.split_seed, subsets.SUBSET)[chosen]
        held = _validation(given[chosen], places, classes, options, of)
        parts = {
            "train": Part("train", rows_of[chosen][~held]),
            "validation": Part("train", rows_of[chosen][held]),
            **{name: part for name, part in parts.items() if name == "test"},
        }
        notes += (_validation_note(held, options, of),)
    return parts, notes


def notes_on(
    labels: Mapping[str, np.ndarray], classes: Sequence[str]
) -> tuple[str, ...]:
    """Says what splits lack: a test split, or classes that are trained on.

    Args:
      labels: int32 `[N]` of each split.
      classes: names.
    """
    notes = ()
    if "test" not in labels:
        notes += ("no test split: the data have none, and nothing is held out",)
    trained = np.bincount(labels["train"], minlength=len(classes)) > 0
    for name, of in labels.items():
        there = np.bincount(of, minlength=len(classes)) > 0
        missing = [repr(classes[label]) for label in np.flatnonzero(trained & ~there)]
        if missing:
            more = len(missing) - NAMED_AT_MOST
            notes += (
                f"the {name} split lacks {len(missing)} of {len(classes)} classes: "
                + ", ".join(missing[:NAMED_AT_MOST])
                + (f", and {more} more" if more > 0 else ""),
            )
    return notes


def _validation(
    labels: np.ndarray,
    places: np.ndarray,
    classes: Sequence[str],
    options: DataConfig,
    groups: np.ndarray | None,
) -> np.ndarray:
    """Which of the training images are for validation, bool `[N]`.

    Args:
      labels: int32 `[N]`.
      places: of each image in the seeded row of its class, `[N]`, from 0.
      classes: names.
      options: of the data set.
      groups: of the images, or None.
    """
    counts, asked = np.bincount(labels, minlength=len(classes)), options.validation
    if isinstance(asked, str):
        number, folds = map(int, asked.split("/"))
        _check_folds(labels, classes, groups, folds, asked)
        seed = options.split_seed
        if groups is None:
            return subsets.fold(labels, number, folds, seed)
        held = grouped.fold(labels, groups, number, folds, seed)
        _check_sides(labels, held, classes, groups, both=False)
        return held
    for label in np.flatnonzero(counts == 1):
        raise UserError(
            f"class {classes[label]!r} has 1 training image: two are needed, one to "
            f"train on and one to validate on; add images, or {ALL}"
        )
    if groups is not None:
        share = min(asked, subsets.MOST / len(labels))
        held = grouped.hold_out(labels, groups, share, options.split_seed)
        _check_sides(labels, held, classes, groups, both=True)
        return held
    allotted = subsets.allot(counts, asked)
    for label in np.flatnonzero((allotted >= counts) & (counts > 0)):
        raise UserError(
            f"config.data.validation={asked} leaves class {classes[label]!r} none of "
            f"its {counts[label]} training images to train on: take a smaller share, "
            f"or {ALL}"
        )
    # The last of the row, so that smaller subsets train on images of larger ones.
    return places >= (counts - allotted)[labels]


def _check_folds(
    labels: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray | None,
    folds: int,
    asked: str,
) -> None:
    for label in np.unique(labels):
        if groups is None:
            count, noun = int((labels == label).sum()), "training image"
        else:
            count, noun = len(grouped.of_class(labels, groups, label)), "group"
        if count < folds:
            raise UserError(
                f"config.data.validation={asked}: class {classes[label]!r} has "
                f"{counted(count, noun)} for {folds} folds; take fewer folds"
            )


def _check_sides(
    labels: np.ndarray,
    held: np.ndarray,
    classes: Sequence[str],
    groups: np.ndarray,
    both: bool,
) -> None:
    """Refuses classes that groups keep on one side of the validation split."""
    for label in np.unique(labels):
        sides = held[labels == label]
        if sides.all() or (both and not sides.any()):
            raise UserError(f"{one_sided(labels, groups, classes, label)}; or {ALL}")


def one_sided(
    labels: np.ndarray, groups: np.ndarray, classes: Sequence[str], label: int
) -> str:
    """What is said of a class whose groups cannot be on two sides."""
    names = grouped.of_class(labels, groups, label)
    listed = ", ".join(repr(shown(name)) for name in names[:NAMED_AT_MOST])
    more = ", …" if names[NAMED_AT_MOST:] else ""
    return (
        f"class {classes[label]!r} lies in {counted(len(names), 'group')} ({listed}"
        f"{more}), which cannot be parted: images of one group stay on one side; add "
        "images of other groups"
    )


def _validation_note(
    held: np.ndarray, options: DataConfig, groups: np.ndarray | None
) -> str:
    count, asked = int(held.sum()), options.validation
    if isinstance(asked, str):
        number, folds = asked.split("/")
        text = (
            f"fold {number} of {folds} of the {len(held):,} training images is the "
            f"validation split: {counted(count, 'image')}"
        )
    else:
        most = f", at most {subsets.MOST:,}" if asked * len(held) > subsets.MOST else ""
        text = (
            f"{count:,} of the {len(held):,} training images are the validation split "
            f"(config.data.validation={asked}{most})"
        )
    if groups is None:
        return text
    of = len(np.unique(groups[held]))
    return f"{text}, {of:,} of {counted(len(np.unique(groups)), 'group')}"


def _left_in(
    labels: Mapping[str, np.ndarray], options: DataConfig, unused: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Rows of each split that `config.data.exclude` does not list, and notes.

    A user's own images are left out where they are listed, by `listing`.

    Raises:
      UserError: the list cannot be read, or names images that are not there.
    """
    rows = {split: np.arange(len(of)) for split, of in labels.items()}
    if options.name == "folder" or not options.exclude:
        return rows, ()
    exclusions = Exclusions(options.exclude)
    rows = {
        split: np.array(
            [row for row in of_split if not exclusions.hold(f"{split}/{row}")], int
        )
        for split, of_split in rows.items()
    }
    for split, count in unused.items():  # they are there, and left out anyway
        for row in range(count):
            exclusions.lists(f"{split}/{row}")
    return rows, exclusions.notes()
