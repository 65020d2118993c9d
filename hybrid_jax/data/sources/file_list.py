"""Lists of the user's images with their classes: from a folder of folders, or a table.

DIR/train/<class>/*  beside  DIR/val/<class>/*  or  DIR/test/<class>/*,  or both
DIR/<class>/*                                    split by a seeded share of each class
FILE.csv with the columns path and label         and split or group, where there are any
"""

import collections
import os
import re
import unicodedata
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import subsets
from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.names import class_name, similar_names, sort_key, suggestion
from hybrid_jax.data.sources.class_folders import (
    Entry,
    FolderContents,
    read_folder,
)
from hybrid_jax.data.sources.csv_table import read_table
from hybrid_jax.data.sources.folder_listing import others_note
from hybrid_jax.data.sources.repeated_files import refuse_repeated
from hybrid_jax.data.split_notes import Expected
from hybrid_jax.data.splitting import one_sided_error
from hybrid_jax.data.subsets import stratified_holdout
from hybrid_jax.errors import UserError, escape, listed, plural
from hybrid_jax.paths import expand_user


class LabeledFiles(NamedTuple):
    """The image files of one split, labels int32 `[N]`, and groups.

    Groups are text `[N]`; None if there are no groups.
    """

    paths: list[Path]
    labels: np.ndarray
    groups: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "LabeledFiles":
        """Return some of the images, in the given order."""
        groups = None if self.groups is None else self.groups[rows]
        return LabeledFiles(
            [self.paths[row] for row in rows], self.labels[rows], groups
        )


class FileSplits(NamedTuple):
    """All splits, and the union of their classes.

    Attributes:
      splits: splits by name, `train` first.
      classes: class names, in the order of the labels.
      held_out: whether the test split was held out from the training images.
      notes: messages on what was left out.
      empty: messages, one for each class folder without images.
      excluded: files that the user leaves out.
      others: files among the images of the classes that are no images.
    """

    splits: dict[str, LabeledFiles]
    classes: tuple[str, ...]
    held_out: bool
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    excluded: tuple[Path, ...] = ()
    others: Sequence[Path] = ()

    @property
    def train(self) -> LabeledFiles:
        return self.splits["train"]

    @property
    def test(self) -> LabeledFiles:
        return self.splits["test"]


def list_images(config: DataConfig, wanted: Container[str] = SPLITS) -> FileSplits:
    """List the images at `config.path`, and check that every class can be learned.

    Args:
      config: data set configuration.
      wanted: which of the user's splits to use.

    Raises:
      UserError: the images are not found or not laid out as expected, a class cannot be
        learned, or a group or a file is in two splits, or a file in two classes.
    """
    found = find_images(config, wanted)
    root = expand_user(config.path)
    path = escape(root)
    if found.empty:
        raise UserError(f"{path}: {_empty_classes_error(found.empty)}")
    groups = {name: files.groups for name, files in found.splits.items()}
    if shared := subsets.shared_groups(groups):
        raise UserError(f"{path}: {subsets.shared_groups_error(shared)}")
    _check_classes(path, found)
    notes = (*found.notes, *others_note(found.others))
    return found._replace(notes=(*notes, *_repeated(root, found, config)))


def find_images(config: DataConfig, wanted: Container[str] = SPLITS) -> FileSplits:
    """List the images at `config.path`, whether or not they can be trained on.

    Args:
      config: data set configuration.
      wanted: which of the user's splits to use.

    Raises:
      UserError: the path is missing or does not exist, is laid out in none of the three
        ways, or holds one class.
    """
    if not config.path:
        raise UserError(
            "config.data.path is missing: give the folder of your images, or a .csv"
        )
    path = expand_user(config.path)
    found = _read_entries(config, wanted)
    kept = [entry for entry in found.entries if not entry.excluded]
    classes, labels = _numbered(kept)
    if len(classes) < 2:
        holds = f"holds one class, {classes[0]!r}" if classes else "holds no class"
        raise UserError(
            f"{escape(path)} {holds}: two are needed"
            + (f"; {_empty_classes_error(found.empty)}" if found.empty else "")
        )
    all_files = labeled_files(kept, labels)
    notes = (
        *found.notes,
        *(f"classes {pair} may be the same" for pair in similar_names(classes)),
        *_joined_notes(kept),
    )
    is_held_out = not found.splits and config.test_fraction > 0
    if found.splits:
        split_index = np.array([entry.split for entry in kept])
    elif not is_held_out:
        split_index = np.full(len(labels), "train")
    else:
        is_test, more = _held_out(found.entries, config)
        split_index = np.where(is_test, "test", "train")
        notes += (*more, *_held_out_note(is_test, all_files.groups))
    splits = {
        name: all_files.take(np.flatnonzero(split_index == name))
        for name in found.splits or (("train", "test") if is_held_out else ("train",))
    }
    excluded = tuple(entry.path for entry in found.entries if entry.excluded)
    return FileSplits(
        splits,
        classes,
        is_held_out,
        notes,
        (*found.empty,),
        excluded,
        found.others,
    )


def _repeated(path: Path, found: FileSplits, config: DataConfig) -> tuple[str, ...]:
    """Refuse or note files that are there twice, see `refuse_repeated`."""
    is_drawn = "validation" not in found.splits and draws_validation(config)
    rows = (
        (
            file,
            f"as {found.classes[label]!r} in {split}",
            found.held_out or (split == "train" and is_drawn),
        )
        for split, files in found.splits.items()
        for file, label in zip(files.paths, files.labels.tolist(), strict=True)
    )
    return refuse_repeated(path, rows)


def draws_validation(config: DataConfig) -> bool:
    """Return whether training images without a validation split are drawn for one."""
    return config.validation != 0 or config.protocol != "none"


def _read_entries(config: DataConfig, wanted: Container[str]) -> FolderContents:
    """Read the images of a folder or a table, with class, split and group.

    Raises:
      UserError: the path does not exist or cannot be read, or both a column of the
        table and `config.group` give groups.
    """
    path, group = expand_user(config.path), config.group
    if not path.exists():
        raise UserError(f"config.data.path={escape(config.path)!r} does not exist")
    root = path if path.is_dir() else path.parent
    exclusions = Exclusions(config.exclude, root)
    read = read_folder if path.is_dir() else read_table
    found = read(path, exclusions, wanted)
    entries, notes = found.entries, [*found.notes, *exclusions.notes()]
    if group and found.group_column:
        raise UserError(
            f"config.data.group={group!r} and the column {found.group_column} of "
            f"{escape(path)} both give groups: leave config.data.group empty, or "
            "remove the column"
        )
    if group:
        entries = with_groups(entries, group, root)
        names = {entry.group for entry in entries if not entry.excluded}
        notes += subsets.groups_notes(names, f"config.data.group={group}")
    return found._replace(entries=entries, notes=notes)


def labeled_files(entries: Sequence[Entry], labels: np.ndarray) -> LabeledFiles:
    """Return the files of some entries with the given labels."""
    groups = np.array([entry.group for entry in entries], object)
    paths = [entry.path for entry in entries]
    return LabeledFiles(paths, labels, groups if any(groups) else None)


def _numbered(entries: Sequence[Entry]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the sorted classes of some images, and their labels, int32 `[N]`."""
    names = [class_name(entry.label) for entry in entries]
    classes = tuple(sorted({*names}, key=sort_key(names)))
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, np.array([numbers[name] for name in names], np.int32)


def _joined_notes(entries: Sequence[Entry]) -> Iterator[str]:
    """Return notes on classes whose name is written in several Unicode forms."""
    forms = collections.defaultdict[str, set[str]](set)
    for label in {entry.label for entry in entries}:
        forms[class_name(label)].add(label)
    for name, labels in forms.items():
        if len(labels) > 1:
            yield (
                f"class {name!r} joins {len(labels)} names that look alike, and differ "
                "in their Unicode form"
            )


def _held_out(
    entries: Sequence[Entry], config: DataConfig
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Hold out images for testing: bool, one for each that is used, and notes.

    Images that the user leaves out take part in the draw. So a list of them moves no
    other image from training to testing, unless a class would lack one of the two.
    """
    everything = labeled_files(entries, _numbered(entries)[1])
    labels, groups = everything.labels, everything.groups
    fraction, seed = config.test_fraction, config.split_seed
    if groups is None:
        drawn = stratified_holdout(labels, fraction, seed)
        groups = np.arange(len(labels))
    else:
        drawn = subsets.group_holdout(labels, groups, fraction, seed)
    is_kept = np.array([not entry.excluded for entry in entries])
    if is_kept.all():
        return drawn, ()
    is_test = subsets.cover_both_sides(drawn[is_kept], labels[is_kept], groups[is_kept])
    if not (moved := int((is_test != drawn[is_kept]).sum())):
        return is_test, ()
    return is_test, (
        f"{plural(moved, 'image')} moved between training and testing, since "
        "config.data.exclude would leave a class without images of one of them",
    )


def _held_out_note(is_test: np.ndarray, groups: np.ndarray | None) -> tuple[str, ...]:
    if groups is None:
        return ()
    held_out_count, all_of = (len({*groups[rows]}) for rows in (is_test, slice(None)))
    return (
        Expected(
            f"{is_test.sum():,} of {plural(len(is_test), 'image')}, "
            f"{held_out_count:,} of {plural(all_of, 'group')}, are held out for testing"
        ),
    )


def with_groups(entries: list[Entry], group: str, root: Path) -> list[Entry]:
    """Return entries with the groups that an expression finds in their paths.

    Args:
      entries: images.
      group: regular expression, such as `config.data.group`.
      root: folder that the paths are relative to.

    Raises:
      UserError: the expression finds no group in some paths.
    """
    expression, found, missing = re.compile(group), [], []
    for entry in entries:
        path = Path(os.path.relpath(entry.path, root)).as_posix()
        match = expression.search(path)
        name = (match and match[1 if expression.groups else 0]) or ""
        found.append(entry._replace(group=unicodedata.normalize("NFC", name)))
        if not name and not entry.excluded:
            missing.append(escape(path))
    if missing:
        raise UserError(
            f"config.data.group={group!r} finds no group in {len(missing):,} of "
            f"{len(entries):,} paths: {listed(missing)}; "
            r"a pattern such as (patient\d+) finds one in a/patient07_2.png"
        )
    return found


def _empty_classes_error(empty: Sequence[str]) -> str:
    """Return the error message for class folders without images."""
    return (
        f"{listed(empty, separator='; ')}: add images, remove the folder, or list it "
        "in a file for config.data.exclude"
    )


def _check_classes(path: str, found: FileSplits) -> None:
    """Refuse classes that are tested but not trained on: often a misspelled name."""
    counts = {
        split: np.bincount(files.labels, minlength=len(found.classes))
        for split, files in found.splits.items()
    }
    if found.held_out:
        is_missing = (counts["train"] == 0) | (counts["test"] == 0)
        for number in np.flatnonzero(is_missing).tolist():
            raise UserError(_unsplittable_error(path, found, number))
    for split, count in counts.items():
        if not count.any():
            raise UserError(_emptied_error(path, split))
    names, trained = np.array(found.classes), counts.pop("train") > 0
    for split, count in counts.items():
        for number in np.flatnonzero(~trained & (count > 0)).tolist():
            verb = {"validation": "validate"}.get(split, split)
            raise UserError(
                f"{path}: class {found.classes[number]!r} has images to {verb} on and "
                "none to train on"
                f"{suggestion(found.classes[number], names[trained & (count == 0)])}"
            )


def _emptied_error(path: str, split: str) -> str:
    """Return the error message for a split of which all images are left out."""
    fields = {
        "validation": "config.data.validation=0",
        "test": "config.data.test=False",
    }
    way_out = f", and set {fields[split]} to do without it" if split in fields else ""
    return (
        f"{path}: config.data.exclude lists all images of the {split} split: take them "
        f"off the list{way_out}"
    )


def _unsplittable_error(path: str, found: FileSplits, number: int) -> str:
    """Return the error message for a class of which no share can be held out."""
    name = found.classes[number]
    labels = np.concatenate([files.labels for files in found.splits.values()])
    if found.train.groups is None:
        rest = " beside those that config.data.exclude lists" if found.excluded else ""
        return (
            f"class {name!r} has {int((labels == number).sum())} image(s){rest}: two "
            "are needed, one to train on and one to test on"
        )
    groups = np.concatenate([files.groups for files in found.splits.values()])
    reason = one_sided_error(labels, groups, found.classes, number)
    return f"{path}: {reason}, or split the images yourself"
