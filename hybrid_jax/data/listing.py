"""Which images a user has, and of what class: a folder of folders, or a table.

DIR/train/<class>/*  and  DIR/test/<class>/*     (or val, valid, validation for test)
DIR/<class>/*                                    split by a seeded share of each class
FILE.csv with the columns path and label         and split, where there is one
"""

import csv
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.data.pixels import SUFFIXES
from hybrid_jax.data.subsets import hold_out
from hybrid_jax.errors import UserError, closest

# Names of splits, in any case; of those for testing the first that is there counts.
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")
COLUMNS = {
    "path": ("path", "image", "file", "filename", "filepath", "image_path"),
    "label": ("label", "class", "target", "category"),
    "split": ("split", "subset", "set"),
}
NAMED_AT_MOST = 5


class Listing(NamedTuple):
    """Image files of one split, in a fixed order, and labels int32 `[N]`."""

    paths: list[Path]
    labels: np.ndarray


class Listings(NamedTuple):
    """Both splits, and the union of their classes in the order of the labels.

    `held_out`: the split is ours, not the user's.
    """

    train: Listing
    test: Listing
    classes: tuple[str, ...]
    held_out: bool


def list_images(path: str, test_fraction: float, seed: int) -> Listings:
    """What lies at `config.data.path`, if every class of it can be learned.

    Raises:
      UserError: of `find_images`, or a class cannot be learned.
    """
    found = find_images(path, test_fraction, seed)
    _check_classes(Path(path).expanduser(), found)
    return found


def find_images(path: str, test_fraction: float, seed: int) -> Listings:
    """What lies at `config.data.path`, whatever a training would say to it.

    Args:
      path: a folder, or a table whose name ends in `.csv` or `.tsv`.
      test_fraction: of each class, where the user did not split the images.
      seed: of that split.

    Raises:
      UserError: it is not laid out as one of the three, or holds one class.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"config.data.path={path!r} does not exist")
    pairs = list(_of_folder(place) if place.is_dir() else _of_table(place))
    named = [label for _, _, label in pairs]
    classes = tuple(sorted(set(named), key=_in_order(named)))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in named], np.int32)
    if len(classes) < 2:
        raise UserError(f"{place} holds one class, {classes[0]!r}: two are needed")
    held_out = not all(split for split, _, _ in pairs)
    if held_out:
        tested = hold_out(labels, test_fraction, seed)
    else:
        tested = np.array([split == "test" for split, _, _ in pairs])
    parts = [np.flatnonzero(~tested), np.flatnonzero(tested)]
    train, test = (
        Listing([pairs[row][1] for row in rows], labels[rows]) for rows in parts
    )
    return Listings(train, test, classes, held_out)


def _of_folder(place: Path) -> Iterator[tuple[str, Path, str]]:
    """Split (or nothing), file and class name of every image below a folder."""
    folders = [entry for entry in _entries(place) if entry.is_dir()]
    splits = _roles(_name(folder) for folder in folders)
    if {*splits.values()} == {"train", "test"}:
        for folder in folders:
            if split := splits.get(_name(folder)):
                yield from _of_classes(folder, split)
    elif splits:
        (only,) = splits.values()
        other = "test" if only == "train" else "train"
        raise UserError(
            f"{place} has images for {only} and no folder {other!r}: add it, or give "
            "the folder of the classes itself to have it split"
        )
    else:
        yield from _of_classes(place, "")


def _roles(names: Iterable[str]) -> dict[str, str]:
    """Which of some names is the training and which the test split.

    As in TFDS, a test split makes a validation split no test split.
    """
    known = {name.casefold(): name for name in names}
    chosen = {
        role: next((known[name] for name in valid if name in known), None)
        for role, valid in (("train", TRAIN), ("test", TEST))
    }
    return {name: role for role, name in chosen.items() if name is not None}


def _of_classes(place: Path, split: str) -> Iterator[tuple[str, Path, str]]:
    images = 0
    folders = [entry for entry in _entries(place) if entry.is_dir()]
    for folder in folders:
        for path in _images_below(folder):
            images += 1
            yield split, path, _name(folder)
    if not images:
        loose = any(_is_image(entry) for entry in _entries(place))
        raise UserError(
            f"{place} holds "
            + ("images, but not in folders by class" if loose else "no images")
            + f": expected {place}/<class>/<image>, of {', '.join(SUFFIXES)}"
        )


def _entries(place: Path) -> list[Path]:
    shown = [entry for entry in place.iterdir() if not entry.name.startswith(".")]
    return sorted(shown, key=lambda entry: entry.name)


def _images_below(folder: Path) -> Iterator[Path]:
    """Images in a folder and its folders, in the order of their paths."""
    seen, found = set(), []
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else [f for f in folders if f[0] != "."]
        if real not in seen:
            found += [Path(here, file) for file in files]
        seen.add(real)
    return filter(_is_image, sorted(found))


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _name(path: Path) -> str:
    # Two systems may write the same letters differently.
    return unicodedata.normalize("NFC", path.name)


def _of_table(place: Path) -> Iterator[tuple[str, Path, str]]:
    """Split (or nothing), file and class name of every row of a table."""
    missing = []
    with place.open(encoding="utf-8-sig", newline="") as file:
        tab = place.suffix.lower() == ".tsv"
        reader = csv.DictReader(file, delimiter="\t" if tab else ",")
        try:
            columns = _columns(place, reader.fieldnames or [])
            rows = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{place} cannot be read as a table: {error}") from None
    splits = _roles((row.get(columns["split"]) or "").strip() for row in rows)
    if columns["split"] and rows and {*splits.values()} != {"train", "test"}:
        raise UserError(
            f"{place} needs rows of both splits, train and test, or no split column"
        )
    for number, row in enumerate(rows, start=2):
        path, label, split = (
            unicodedata.normalize("NFC", (row.get(columns[name]) or "").strip())
            if name == "label"
            else (row.get(columns[name]) or "").strip()
            for name in COLUMNS
        )
        known = split.casefold() in (*TRAIN, *TEST)
        if not path or not label or (columns["split"] and not known):
            raise UserError(
                f"{place}, row {number}: a path, a label and, where there is such a "
                f"column, a split of {', '.join((*TRAIN, *TEST))} are needed"
            )
        image = place.parent / path
        if not image.is_file():
            missing.append(f"{path} (row {number})")
        if not splits or split in splits:  # not of a validation beside a test split
            yield splits.get(split, ""), image, label
    if not rows or missing:
        named = ", ".join(missing[:NAMED_AT_MOST])
        raise UserError(
            f"{place} names {len(missing)} images that do not exist, beside it or by "
            f"their whole path: {named}"
            if missing
            else f"{place} has no rows"
        )


def _columns(place: Path, header: list[str]) -> dict[str, str | None]:
    """The table's own name of each of our columns."""
    plain = {name.strip().lower(): name for name in header}
    columns = {
        ours: next((plain[name] for name in names if name in plain), None)
        for ours, names in COLUMNS.items()
    }
    for ours in ("path", "label"):
        if columns[ours] is None:
            raise UserError(
                f"{place} has the columns {', '.join(header) or 'of nothing'}, and "
                f"none is called {' or '.join(COLUMNS[ours])}"
            )
    return columns


def _in_order(names: list[str]):
    """A sort key: by number where all names are numbers, else by letters."""
    return int if all(name.isdecimal() for name in names) else str


def _check_classes(place: Path, found: Listings) -> None:
    """Refuses classes that are tested and cannot be learned: often a slip of a name."""
    train, test = (
        np.bincount(listing.labels, minlength=len(found.classes))
        for listing in (found.train, found.test)
    )
    for number in np.flatnonzero(train == 0):
        name = found.classes[number]
        raise UserError(
            f"{place}: class {name!r} has images to test on and none to train on"
            f"{meant(name, np.array(found.classes)[(train > 0) & (test == 0)])}"
        )
    if found.held_out and test.min() == 0:
        name = found.classes[int(test.argmin())]
        raise UserError(
            f"class {name!r} has 1 image(s): two are needed, one to train on and one "
            "to test on"
        )


def meant(name: str, classes: Sequence[str]) -> str:
    """`", did you mean 'Cats'?"`: the class that was meant by a slip, or nothing.

    Args:
      name: found in one split alone.
      classes: found in the other alone, since a slip leaves the right name there.
    """
    others = [str(c) for c in classes if c != name]
    same = next((c for c in others if c.lower() == name.lower()), None)
    return f", did you mean {same!r}?" if same else closest(name, others)
