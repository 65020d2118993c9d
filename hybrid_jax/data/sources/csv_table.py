"""Images that a table names: their files, splits, classes and groups."""

import os
from collections.abc import Container
from pathlib import Path

from hybrid_jax.data import group_splitting
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.sources import csv_reader
from hybrid_jax.data.sources.class_folders import SPLITS, Entry, Folder, chosen_split
from hybrid_jax.errors import UserError, counted, shown

NAMED_AT_MOST = 5


def read_table(
    place: Path, exclusions: Exclusions, wanted: Container[str] = SPLITS
) -> Folder:
    """The images that a table names, by split and class.

    Args:
      place: the table.
      exclusions: what to leave out.
      wanted: splits that are used; others are counted in the notes.

    Raises:
      UserError: it is no table, has images of one split alone, or has a row that names
        no image, class, split or group.
    """
    table = _opened(place)
    roles = roles_of(table)
    if "split" in table.columns and (
        "train" not in roles.values() or len({*roles.values()}) < 2
    ):
        raise UserError(
            f"{shown(place)} needs rows of train and of test or validation, or no "
            "split column"
        )
    for line, cells in table:
        if "group" in table.columns and not cells["group"]:
            column = shown(table.columns["group"])
            raise UserError(
                f"{shown(place)}, line {line}: it has no {column}; give one, such as "
                "the path of an image that belongs to no other"
            )
    found = _entries(place, table, roles, exclusions, wanted)
    if "group" in table.columns:
        count = len({entry.group for entry in found.entries})
        column = f"column {shown(table.columns['group'])}"
        found.notes.append(group_splitting.note(count, column))
    return found


def read_table_split(place: Path, split: str) -> Folder:
    """The images of one split of a table, or of all where it has none.

    Args:
      place: the table.
      split: which; it must be empty or one that the table has, if it has any.

    Raises:
      UserError: it is no table, the split is not there, or a row names no image or
        class.
    """
    table = _opened(place)
    roles = roles_of(table)
    chosen, notes = chosen_split(place, tuple(dict.fromkeys(roles.values())), split)
    found = _entries(place, table, roles, Exclusions(), {chosen})
    return found._replace(notes=[*notes, *found.notes])


def roles_of(table: csv_reader.Table) -> dict[str, str]:
    """The split that each name of a split means; none without a column."""
    names = dict.fromkeys(row.cells["split"] for row in table)
    return {
        name: role
        for name in names
        for role, known in SPLITS.items()
        if name.casefold() in known
    }


def _opened(place: Path) -> csv_reader.Table:
    if place.suffix.lower() not in csv_reader.SUFFIXES:
        raise UserError(
            f"{shown(place)} is neither a folder nor a table whose name ends in "
            f"{' or '.join(csv_reader.SUFFIXES)}"
        )
    table = csv_reader.read(place, needed=("path", "label"))
    if not table.rows:
        raise UserError(f"{shown(place)} has no rows")
    return table


def _entries(
    place: Path,
    table: csv_reader.Table,
    roles: dict[str, str],
    exclusions: Exclusions,
    wanted: Container[str],
) -> Folder:
    """The images of a table that are wanted, if every row of it is right."""
    entries, missing, unused = [], [], dict.fromkeys(SPLITS, 0)
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
        elif split and split not in wanted:
            unused[split] += 1
        else:
            entries.append(Entry(split, image, cells["label"], cells["group"]))
    if missing:
        raise UserError(
            f"{shown(place)} names {len(missing)} images that do not exist, beside it "
            f"or by their whole path: {', '.join(missing[:NAMED_AT_MOST])}"
        )
    notes = [
        f"{counted(count, 'image')} of the {split} split left out"
        for split, count in unused.items()
        if count
    ]
    used = tuple(s for s in SPLITS if s in roles.values() and s in wanted)
    return Folder(entries, notes, [], used)
