"""Which images a user has, and of what class: a folder of folders, or a table.

DIR/train/<class>/*  and  DIR/test/<class>/*     (or val, valid, validation for test)
DIR/<class>/*                                    split by a seeded share of each class
FILE.csv with the columns path and label         and split, where there is one
"""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.data import tables
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.folders import SPLITS, Entry, Folder, read_folder
from hybrid_jax.data.subsets import hold_out
from hybrid_jax.errors import UserError, closest, counted, shown
from hybrid_jax.paths import expanded

NAMED_AT_MOST = 5


class Listing(NamedTuple):
    """Image files of one split, in a fixed order, and labels int32 `[N]`."""

    paths: list[Path]
    labels: np.ndarray


class Listings(NamedTuple):
    """Both splits, and the union of their classes in the order of the labels.

    Attributes:
      train, test: the splits.
      classes: names.
      held_out: whether the test split is a share that was held out here.
      notes: in words, what was left out.
      empty: in words, each class folder without images.
    """

    train: Listing
    test: Listing
    classes: tuple[str, ...]
    held_out: bool
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


def list_images(
    path: str, test_fraction: float, seed: int, exclude: str = ""
) -> Listings:
    """What lies at `config.data.path`, if every class of it can be learned.

    Raises:
      UserError: of `find_images`, or a class cannot be learned.
    """
    found = find_images(path, test_fraction, seed, exclude)
    place = shown(expanded(path))
    if found.empty:
        raise UserError(f"{place}: {_no_class(found.empty)}")
    _check_classes(place, found)
    return found


def find_images(
    path: str, test_fraction: float, seed: int, exclude: str = ""
) -> Listings:
    """What lies at `config.data.path`, whatever a training would say to it.

    Args:
      path: a folder, or a table whose name ends in `.csv` or `.tsv`.
      test_fraction: of each class, where the user did not split the images.
      seed: of that split.
      exclude: a file that lists images to leave out.

    Raises:
      UserError: it is not laid out as one of the three, or holds one class.
    """
    place = expanded(path)
    if not place.exists():
        raise UserError(f"config.data.path={shown(path)!r} does not exist")
    exclusions = Exclusions(exclude)
    read = read_folder if place.is_dir() else _read_table
    entries, notes, empty = read(place, exclusions)
    notes += exclusions.notes()
    named = [_class_name(entry.label) for entry in entries]
    classes = tuple(sorted({*named}, key=_order_of(named)))
    if len(classes) < 2:
        holds = f"holds one class, {classes[0]!r}" if classes else "holds no class"
        raise UserError(
            f"{shown(place)} {holds}: two are needed"
            + (f"; {_no_class(empty)}" if empty else "")
        )
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in named], np.int32)
    held_out = not all(entry.split for entry in entries)
    if held_out:
        tested = hold_out(labels, test_fraction, seed)
    else:
        tested = np.array([entry.split == "test" for entry in entries])
    parts = [np.flatnonzero(~tested), np.flatnonzero(tested)]
    train, test = (
        Listing([entries[row].path for row in rows], labels[rows]) for rows in parts
    )
    notes += (f"classes {pair} may be one" for pair in alike(classes))
    return Listings(train, test, classes, held_out, (*notes,), (*empty,))


def alike(classes: Sequence[str]) -> list[str]:
    """Classes whose names differ in case, spaces or underscores alone, in words.

    Names of one letter are left alone: alphabets have both cases.
    """
    first: dict[str, str] = {}
    found = []
    for name in classes:
        plain = "".join(name.casefold().replace("_", " ").split())
        other = first.setdefault(plain, name)
        if other != name and len(plain) > 1:
            found.append(f"{other!r} and {name!r}")
    return found


def meant(name: str, classes: Sequence[str]) -> str:
    """`", did you mean 'Cats'?"`: the class that was meant by a slip, or nothing.

    Args:
      name: found in one split alone.
      classes: found in the other alone, since a slip leaves the right name there.
    """
    others = [str(c) for c in classes if c != name]
    same = next((c for c in others if c.lower() == name.lower()), None)
    return f", did you mean {same!r}?" if same else closest(name, others)


def _read_table(place: Path, exclusions: Exclusions) -> Folder:
    """The images that a table names, by split and class.

    Raises:
      UserError: it is no table, or a row of it names no image, class or split.
    """
    if place.suffix.lower() not in tables.SUFFIXES:
        raise UserError(
            f"config.data.path={shown(place)} is neither a folder nor a table whose "
            f"name ends in {' or '.join(tables.SUFFIXES)}"
        )
    table = tables.read(place, needed=("path", "label"))
    if not table.rows:
        raise UserError(f"{shown(place)} has no rows")
    roles = _roles(place, table)
    entries, missing, unused = [], [], 0
    for line, cells in table:
        split = roles.get(cells["split"], "")
        if not (cells["path"] and cells["label"]) or (roles and not split):
            known = ", ".join(name for names in SPLITS.values() for name in names)
            raise UserError(
                f"{shown(place)}, line {line}: a path, a label and, where there is "
                f"such a column, a split of {known} are needed"
            )
        image = place.parent / cells["path"]
        if not os.path.lexists(image):
            missing.append(f"{shown(cells['path'])} (line {line})")
        elif exclusions.hold(os.path.relpath(image, place.parent)):
            continue
        elif split == "validation":
            unused += 1
        else:
            entries.append(Entry(split, image, cells["label"]))
    if missing:
        raise UserError(
            f"{shown(place)} names {len(missing)} images that do not exist, beside it "
            f"or by their whole path: {', '.join(missing[:NAMED_AT_MOST])}"
        )
    notes = (
        [f"{counted(unused, 'image')} of the validation split left out"]
        if unused
        else []
    )
    return Folder(entries, notes, [])


def _roles(place: Path, table: tables.Table) -> dict[str, str]:
    """`train`, `test` or `validation` of each name of a split; none without a column.

    A validation split is tested on where there is no test split.

    Raises:
      UserError: the rows are of one split.
    """
    if "split" not in table.columns:
        return {}
    names = dict.fromkeys(row.cells["split"] for row in table)
    roles = {
        name: role
        for name in names
        for role, known in SPLITS.items()
        if name.casefold() in known
    }
    if "test" not in roles.values():
        roles = {n: "test" if r == "validation" else r for n, r in roles.items()}
    if not {"train", "test"} <= {*roles.values()}:
        raise UserError(
            f"{shown(place)} needs rows of both splits, train and test, or no split "
            "column"
        )
    return roles


def _class_name(name: str) -> str:
    """The name of a class, for people: two systems write the same letters differently.

    Names need not be UTF-8 either.
    """
    return shown(unicodedata.normalize("NFC", name))


def _order_of(names: Iterable[str]):
    """A sort key: by number where all names are numbers, else by letters."""
    if all(name.isdecimal() for name in names):
        return lambda name: (int(name), name)
    return str


def _no_class(empty: Sequence[str]) -> str:
    """What is said of class folders without images."""
    more = f"; and {len(empty) - NAMED_AT_MOST} more" if empty[NAMED_AT_MOST:] else ""
    return (
        f"{'; '.join(empty[:NAMED_AT_MOST])}{more}: add images, remove the folder, or "
        "list it in a file for config.data.exclude"
    )


def _check_classes(place: str, found: Listings) -> None:
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
