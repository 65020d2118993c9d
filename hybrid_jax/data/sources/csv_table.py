"""Images that a table names, with their splits, classes and groups."""

import os
import unicodedata
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from hybrid_jax.data import subsets
from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.sources import csv_reader
from hybrid_jax.data.sources.class_folders import (
    Entry,
    FolderContents,
    requested_split,
)
from hybrid_jax.data.sources.folder_listing import IMAGE_SUFFIXES
from hybrid_jax.data.split_notes import Expected
from hybrid_jax.errors import UserError, escape, listed, plural

UNPACK = "unpack it, and give the folder"
IN_PYTHON = "read the arrays in Python, and train with hybrid_jax.fit or Classifier"
# What to do with files that are often given in place of a folder or a table.
OTHER_FILES = {
    ".zip": UNPACK,
    ".gz": UNPACK,
    ".tar": UNPACK,
    ".tgz": UNPACK,
    ".npy": IN_PYTHON,
    ".npz": IN_PYTHON,
    ".h5": f"{IN_PYTHON}; for that of Galaxy10, see --config=galaxy10",
    ".hdf5": IN_PYTHON,
    ".xlsx": "save it as .csv",
    ".txt": "save it as .csv, with the columns path and label",
}


def read_table(
    file: Path, exclusions: Exclusions, wanted: Container[str] = SPLITS
) -> FolderContents:
    """List the images that a table names, by split and class.

    Args:
      file: the table.
      exclusions: images to leave out.
      wanted: splits to use; others are counted in the notes.

    Raises:
      UserError: the file is no table, has images of only one split, or has a row that
        names no image, class, split or group.
    """
    table = _open_table(file)
    roles = split_roles(file, table)
    if "split" in table.columns and (
        "train" not in roles.values() or len({*roles.values()}) < 2
    ):
        raise UserError(
            f"{escape(file)} needs rows of train and of test or validation, or no "
            "split column"
        )
    found = _entries(file, table, roles, exclusions, wanted)
    if found.group_column:
        names = {entry.group for entry in found.entries if not entry.excluded}
        found.notes.extend(subsets.groups_notes(names, f"column {found.group_column}"))
    return found


def read_table_split(file: Path, split: str) -> FolderContents:
    """List the images of one split of a table, or all where it has no splits.

    Args:
      file: the table.
      split: name of a split that the table has; empty if it has none.

    Raises:
      UserError: the file is no table, lacks the split, has a split column that names
        no known split, or has a row that names no image, class or group.
    """
    table = _open_table(file)
    roles = split_roles(file, table)
    role, notes = requested_split(file, tuple(dict.fromkeys(roles.values())), split)
    found = _entries(file, table, roles, Exclusions(), {role})
    splits = (role,) if role else ()
    return found._replace(notes=[*notes, *found.notes], splits=splits)


def split_roles(file: Path, table: csv_reader.Table) -> dict[str, str]:
    """Map the cells of the split column to splits; empty without that column.

    Raises:
      UserError: the column names no known split.
    """
    names = dict.fromkeys(row.cells["split"] for row in table.rows)
    roles = {name: role for name in names if (role := _split_of(name)) is not None}
    if "split" in table.columns and not roles:
        raise UserError(
            f"{escape(file)} has no split in its column "
            f"{escape(table.columns['split'])}, but {listed([*map(_quoted, names)])}: "
            f"name splits by {_aliases()}, or remove the column"
        )
    return roles


def _check_split_columns(file: Path, table: csv_reader.Table) -> None:
    """Refuse splits in a column of another name, or in two columns that differ.

    Raises:
      UserError: names the column and the way out.
    """
    column = table.columns.get("split")
    if column is None:
        for name, cells in table.others.items():
            found = {*map(_split_of, filter(None, cells))}
            if len(found) > 1 and None not in found:
                raise UserError(
                    f"{escape(file)}: the column {_quoted(name)} names splits "
                    f"({listed(sorted(map(str, found)))}), but is not called split: "
                    "rename it to 'split' to use it, or remove it"
                )
        return
    for name, cells in table.others_called("split").items():
        for row, cell in zip(table.rows, cells, strict=True):
            if _split_of(cell) != _split_of(row.cells["split"]):
                raise UserError(
                    f"{escape(file)}, line {row.line}: the columns {_quoted(column)} "
                    f"and {_quoted(name)} name different splits: remove one of them"
                )


def _split_of(cell: str) -> str | None:
    """Return the split that a cell names; None if it names none."""
    known = (role for role, names in SPLITS.items() if cell.casefold() in names)
    return next(known, None)


def _quoted(cell: str) -> str:
    return repr(escape(cell))


def _aliases() -> str:
    return ", ".join(name for names in SPLITS.values() for name in names)


def _open_table(file: Path) -> csv_reader.Table:
    if file.suffix.lower() not in csv_reader.SUFFIXES:
        way_out = OTHER_FILES.get(file.suffix.lower(), "")
        raise UserError(
            f"{escape(file)} is neither a folder nor a table whose name ends in "
            f"{' or '.join(csv_reader.SUFFIXES)}{way_out and f': {way_out}'}"
        )
    table = csv_reader.read(file, needed=("path", "label"))
    if not table.rows:
        raise UserError(f"{escape(file)} has no rows")
    for row in table.rows:
        _check_row(file, row, table.columns)
    _check_split_columns(file, table)
    return table


def _check_row(file: Path, row: csv_reader.Row, columns: Mapping[str, str]) -> None:
    """Refuse a row without a group, or with text that is not UTF-8.

    File names need not be UTF-8.
    """
    where = f"{escape(file)}, line {row.line}"
    if "group" in columns and not row.cells["group"]:
        raise UserError(
            f"{where}: it has no {escape(columns['group'])}; give one, such as the "
            "path of an image that belongs to no other"
        )
    for name, column in columns.items():
        cell = row.cells[name]
        if name != "path" and not _is_utf8(cell):
            raise UserError(
                f"{where}: the {escape(column)} {escape(cell)} is not in UTF-8: save "
                "the table in UTF-8"
            )


def _is_utf8(cell: str) -> bool:
    return escape(cell) == cell


def _entries(
    file: Path,
    table: csv_reader.Table,
    roles: dict[str, str],
    exclusions: Exclusions,
    wanted: Container[str],
) -> FolderContents:
    """List the wanted images of a table, after checking every row."""
    entries: list[Entry] = []
    missing, unused = [], dict.fromkeys(SPLITS, 0)
    for line, cells in table.rows:
        split = roles.get(cells["split"], "")
        if not (cells["path"] and cells["label"]) or (roles and not split):
            raise UserError(
                f"{escape(file)}, line {line}: a path, a label and, if there is a "
                f"split column, a split of {_aliases()} are needed; NaN is none"
            )
        image = file.parent / cells["path"]
        if not os.path.lexists(image):
            missing.append((line, cells["path"]))
            continue
        relative = os.path.relpath(image, file.parent)
        excluded = exclusions.matches(relative, os.path.abspath(image))
        if excluded or not split or split in wanted:
            label, group = cells["label"], unicodedata.normalize("NFC", cells["group"])
            entries.append(Entry(split, image, label, group, excluded))
        else:
            unused[split] += 1
    if missing:
        raise _missing_error(file, missing)
    notes: list[str] = [
        Expected(f"{plural(count, 'image')} of the {split} split left out")
        for split, count in unused.items()
        if count
    ]
    used = tuple(s for s in SPLITS if s in roles.values() and s in wanted)
    column = escape(table.columns.get("group", ""))
    notes += _other_groups_note(table.other_groups, column)
    notes += _unused_notes(table)
    return FolderContents(entries, notes, [], used, group_column=column)


def _missing_error(file: Path, missing: Sequence[tuple[int, str]]) -> UserError:
    """Return the error for files that do not exist, given by line and path."""
    names = [f"{escape(path)} (line {line})" for line, path in missing]
    return UserError(
        f"{escape(file)} names files that do not exist ({len(missing)}; paths are "
        f"absolute, or relative to the table): {listed(names)}"
        f"{_way_to_existing(file.parent, [path for _, path in missing])}"
    )


def _way_to_existing(folder: Path, missing: Sequence[str]) -> str:
    """Return how to write missing paths so that they exist; empty if unknown."""
    if not all(map(_is_utf8, missing)):
        return "; if names look wrong, save the table in UTF-8"
    for path in missing:
        if "\\" in path and (folder / path.replace("\\", "/")).exists():
            return "; write / in place of \\"
        for suffix in sorted(IMAGE_SUFFIXES):
            if (folder / f"{path}{suffix}").exists():
                return f"; add the suffix, such as {suffix}"
    return ""


def _unused_notes(table: csv_reader.Table) -> list[str]:
    """Return notes on columns that could be those of paths or labels, but differ."""
    notes = []
    for role in ("path", "label"):
        used, own = table.columns[role], [row.cells[role] for row in table.rows]
        others = table.others_called(role)
        if names := [_quoted(name) for name, cells in others.items() if cells != own]:
            notes.append(
                f"columns that are not used: {listed(names)}; {role}s are those of "
                f"{_quoted(used)}"
            )
    return notes


def _other_groups_note(others: Sequence[str], column: str) -> tuple[str, ...]:
    """Return the note on columns that look like groups and are not used.

    Args:
      others: names of these columns.
      column: name of the column of groups that is used; empty without one.
    """
    if not others:
        return ()
    names = listed([*map(_quoted, others)])
    reason = f"they are those of {column!r}" if column else "call one 'group' to use it"
    return (f"columns that give no groups: {names}; {reason}",)
