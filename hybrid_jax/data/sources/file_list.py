"""Which images a user has, and of what class: a folder of folders, or a table.

DIR/train/<class>/*  beside  DIR/val/<class>/*  or  DIR/test/<class>/*,  or both
DIR/<class>/*                                    split by a seeded share of each class
FILE.csv with the columns path and label         and split or group, where there are any
"""

import os
import re
import unicodedata
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.data import group_splitting as grouped
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.sources.class_folders import SPLITS, Entry, Folder, read_folder
from hybrid_jax.data.sources.csv_table import read_table
from hybrid_jax.data.splitting import one_sided
from hybrid_jax.data.subsets import hold_out
from hybrid_jax.errors import UserError, closest, counted, shown
from hybrid_jax.paths import expanded

NAMED_AT_MOST = 5


class Listing(NamedTuple):
    """Image files of one split, in a fixed order, labels int32 `[N]`, and groups.

    Groups are text `[N]`; None where there are none.
    """

    paths: list[Path]
    labels: np.ndarray
    groups: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Listing":
        """Some of the images, in the order given."""
        groups = None if self.groups is None else self.groups[rows]
        return Listing([self.paths[row] for row in rows], self.labels[rows], groups)


class Listings(NamedTuple):
    """All splits, and the union of their classes in the order of the labels.

    Attributes:
      splits: by name, `train` first.
      classes: names.
      held_out: whether the test split is a share that was held out here.
      notes: in words, what was left out.
      empty: in words, each class folder without images.
    """

    splits: dict[str, Listing]
    classes: tuple[str, ...]
    held_out: bool
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    @property
    def train(self) -> Listing:
        return self.splits["train"]

    @property
    def test(self) -> Listing:
        return self.splits["test"]


def list_images(path: str, test_fraction: float, seed: int, **options) -> Listings:
    """What lies at `config.data.path`, if every class of it can be learned.

    Args:
      path, test_fraction, seed, options: those of `find_images`.

    Raises:
      UserError: of `find_images`, or a class cannot be learned, or a group lies in two
        splits.
    """
    found = find_images(path, test_fraction, seed, **options)
    place = shown(expanded(path))
    if found.empty:
        raise UserError(f"{place}: {_no_class(found.empty)}")
    if shared := grouped.shared({n: of.groups for n, of in found.splits.items()}):
        raise UserError(f"{place}: {grouped.refusal(shared)}")
    _check_classes(place, found)
    return found


def find_images(
    path: str,
    test_fraction: float,
    seed: int,
    exclude: str = "",
    group: str = "",
    wanted: Container[str] = SPLITS,
) -> Listings:
    """What lies at `config.data.path`, whatever a training would say to it.

    Args:
      path: a folder, or a table whose name ends in `.csv` or `.tsv`.
      test_fraction: of each class, where the user did not split the images.
      seed: of that split.
      exclude: a file that lists images to leave out.
      group: a regular expression that finds an image's group in its path.
      wanted: which of the user's own splits are used.

    Raises:
      UserError: it is not laid out as one of the three, or holds one class.
    """
    place = expanded(path)
    found = read_entries(path, exclude, group, wanted)
    named = [class_name(entry.label) for entry in found.entries]
    classes = tuple(sorted({*named}, key=order_of(named)))
    if len(classes) < 2:
        holds = f"holds one class, {classes[0]!r}" if classes else "holds no class"
        raise UserError(
            f"{shown(place)} {holds}: two are needed"
            + (f"; {_no_class(found.empty)}" if found.empty else "")
        )
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in named], np.int32)
    whole = listing_of(found.entries, labels)
    notes = (*found.notes, *(f"classes {pair} may be one" for pair in alike(classes)))
    if found.splits:
        of_split = np.array([entry.split for entry in found.entries])
    else:
        tested = _held_out(whole, test_fraction, seed)
        of_split = np.where(tested, "test", "train")
        notes += _held_out_note(tested, whole.groups)
    splits = {
        name: whole.take(np.flatnonzero(of_split == name))
        for name in found.splits or ("train", "test")
    }
    return Listings(splits, classes, not found.splits, notes, (*found.empty,))


def read_entries(
    path: str, exclude: str = "", group: str = "", wanted: Container[str] = SPLITS
) -> Folder:
    """The images of a folder or a table, each with what is known of it.

    Args:
      path, exclude, group, wanted: those of `find_images`.

    Raises:
      UserError: it is not laid out as one of the three.
    """
    place = expanded(path)
    if not place.exists():
        raise UserError(f"config.data.path={shown(path)!r} does not exist")
    exclusions = Exclusions(exclude)
    read = read_folder if place.is_dir() else read_table
    found = read(place, exclusions, wanted)
    entries, notes = found.entries, [*found.notes, *exclusions.notes()]
    if group:
        root = place if place.is_dir() else place.parent
        entries = _grouped(entries, group, root)
        count = len({entry.group for entry in entries})
        notes.append(grouped.note(count, f"config.data.group={group}"))
    return found._replace(entries=entries, notes=notes)


def listing_of(entries: Sequence[Entry], labels: np.ndarray) -> Listing:
    """The files of some entries, with the labels given."""
    groups = np.array([entry.group for entry in entries], object)
    paths = [entry.path for entry in entries]
    return Listing(paths, labels, groups if any(groups) else None)


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


def class_name(name: str) -> str:
    """The name of a class, for people: two systems write the same letters differently.

    Names need not be UTF-8 either.
    """
    return shown(unicodedata.normalize("NFC", name))


def order_of(names: Iterable[str]):
    """A sort key: by number where all names are numbers, else by letters."""
    if all(name.isdecimal() for name in names):
        return lambda name: (int(name), name)
    return str


def _held_out(whole: Listing, fraction: float, seed: int) -> np.ndarray:
    if whole.groups is None:
        return hold_out(whole.labels, fraction, seed)
    return grouped.hold_out(whole.labels, whole.groups, fraction, seed)


def _held_out_note(tested: np.ndarray, groups: np.ndarray | None) -> tuple[str, ...]:
    if groups is None:
        return ()
    of, all_of = (len({*groups[rows]}) for rows in (tested, slice(None)))
    return (
        f"{tested.sum():,} of {counted(len(tested), 'image')}, {of:,} of "
        f"{counted(all_of, 'group')}, are held out for testing",
    )


def _grouped(entries: list[Entry], group: str, root: Path) -> list[Entry]:
    """Entries with the groups that an expression finds in their paths.

    Raises:
      UserError: names those in which it finds none.
    """
    expression, found, missing = re.compile(group), [], []
    for entry in entries:
        path = Path(os.path.relpath(entry.path, root)).as_posix()
        match = expression.search(path)
        name = match and match[1 if expression.groups else 0]
        found.append(entry._replace(group=name or ""))
        if not name:
            missing.append(shown(path))
    if missing:
        more = len(missing) - NAMED_AT_MOST
        raise UserError(
            f"config.data.group={group!r} finds no group in {len(missing):,} of "
            f"{len(entries):,} paths: {', '.join(missing[:NAMED_AT_MOST])}"
            + (f", and {more:,} more" if more > 0 else "")
            + r"; a pattern such as (patient\d+) finds one in a/patient07_2.png"
        )
    return found


def _no_class(empty: Sequence[str]) -> str:
    """What is said of class folders without images."""
    more = f"; and {len(empty) - NAMED_AT_MOST} more" if empty[NAMED_AT_MOST:] else ""
    return (
        f"{'; '.join(empty[:NAMED_AT_MOST])}{more}: add images, remove the folder, or "
        "list it in a file for config.data.exclude"
    )


def _check_classes(place: str, found: Listings) -> None:
    """Refuses classes that are tested and cannot be learned: often a slip of a name."""
    counts = {
        split: np.bincount(listing.labels, minlength=len(found.classes))
        for split, listing in found.splits.items()
    }
    if found.held_out:
        for number in np.flatnonzero((counts["train"] == 0) | (counts["test"] == 0)):
            raise UserError(_not_parted(place, found, number))
    names, trained = np.array(found.classes), counts.pop("train") > 0
    for split, count in counts.items():
        if not count.any():
            raise UserError(f"{place}: no image is left in the {split} split")
        for number in np.flatnonzero(~trained & (count > 0)):
            verb = {"validation": "validate"}.get(split, split)
            raise UserError(
                f"{place}: class {found.classes[number]!r} has images to {verb} on and "
                "none to train on"
                f"{meant(found.classes[number], names[trained & (count == 0)])}"
            )


def _not_parted(place: str, found: Listings, number: int) -> str:
    """What is said of a class of which no share can be held out."""
    name = found.classes[number]
    labels = np.concatenate([listing.labels for listing in found.splits.values()])
    if found.train.groups is None:
        return (
            f"class {name!r} has {int((labels == number).sum())} image(s): two are "
            "needed, one to train on and one to test on"
        )
    groups = np.concatenate([listing.groups for listing in found.splits.values()])
    said = one_sided(labels, groups, found.classes, number)
    return f"{place}: {said}, or split the images yourself"
