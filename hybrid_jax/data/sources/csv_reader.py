"""Reader of the user's tables, separated by commas, semicolons or tabs.

Columns are found by any of their common names, in any case, with or without spaces, `_`
and `-`. Errors name the line in an editor.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.data.sources.folder_listing import IMAGE_SUFFIXES
from hybrid_jax.errors import UserError, escape

SUFFIXES = (".csv", ".tsv")
IMAGES = tuple(IMAGE_SUFFIXES)
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
SEPARATOR_LINE = re.compile(r'"?sep=([,;\t])"?\r?\n', re.IGNORECASE)  # of Excel
COLUMNS = {
    "path": ("path", "image", "file", "filename", "filepath", "image_path"),
    "label": ("label", "class", "target", "category"),
    "split": ("split", "splits", "subset", "set", "partition"),
    "group": (
        "group",
        "group_id",
        "patient",
        "patient_id",
        "subject",
        "subject_id",
        "slide",
        "slide_id",
    ),
}
GROUP_WORDS = ("group", "patient", "subject", "slide")
# Words in the names of columns that give groups, if their cells repeat.
PLACES = re.compile(
    r"(?<![a-z])(animal|camera|case|donor|field|individual|location|plate|plot|scan|"
    r"session|site|specimen|station|tile|video|well)s?(?![a-z])"
)


class Row(NamedTuple):
    """One row: the number of its first line, and its cells by the names in `COLUMNS`.

    The cell of a missing column is empty, as is one that says NaN.
    """

    line: int
    cells: dict[str, str]


class Table(NamedTuple):
    """The rows of a table.

    Attributes:
      rows: the rows.
      columns: the table's own names of the columns in `COLUMNS` that it has.
      others: cells `[rows]` of all other columns, by name.
    """

    rows: list[Row]
    columns: dict[str, str]
    others: dict[str, list[str]]

    @property
    def other_groups(self) -> list[str]:
        """The names of other columns that look like groups."""
        return [n for n, cells in self.others.items() if _looks_like_groups(n, cells)]

    def others_called(self, column: str) -> dict[str, list[str]]:
        """Return cells of other columns that have a name of a row of `COLUMNS`."""
        names = [*map(_plain, COLUMNS[column])]
        return {
            name: cells for name, cells in self.others.items() if _plain(name) in names
        }


def read(file: Path, needed: Sequence[str]) -> Table:
    """Read the rows of a table in UTF-8.

    Args:
      file: the table; its name ends in one of `SUFFIXES`.
      needed: rows of `COLUMNS` that the table must have.

    Raises:
      UserError: the file is no table, lacks a column, has two columns of one name in
        `COLUMNS`, has a row that does not fit the header, or holds predictions in the
        place of labels that are needed.
    """
    # File names need not be UTF-8.
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise UserError(f"{escape(file)} cannot be read as a table: save it in UTF-8")
    if named := SEPARATOR_LINE.match(text):
        separator = named[1]
        text = "\n" + text[named.end() :]  # later lines keep their numbers
    else:
        separator = _separator(file, text, needed)
    (_, header), *lines = _parsed(file, text, separator) or [(1, [])]
    columns = {
        name: index for name in COLUMNS if (index := _index(name, header)) is not None
    }
    if "label" in needed and _holds_predictions(header):
        raise UserError(
            f"{escape(file)} holds predictions, not labels: give a table with the "
            "columns path and label"
        )
    for name in needed:
        if name not in columns:
            raise _lacks_a_column(file, name, header, separator)
    for name in (header[index] for index in columns.values()):
        if header.count(name) > 1:
            raise UserError(
                f"{escape(file)} has {header.count(name)} columns called "
                f"{escape(name)!r}: rename or remove all but one"
            )
    filled = [(line, _filled(file, line, cells, header)) for line, cells in lines]
    rows = [Row(line, _named(cells, columns)) for line, cells in filled]
    others = {
        name: [cells[index] for _, cells in filled]
        for index, name in enumerate(header)
        if index not in columns.values()
    }
    names = {name: header[index] for name, index in columns.items()}
    return Table(rows, names, others)


def _lacks_a_column(
    file: Path, name: str, header: Sequence[str], separator: str
) -> UserError:
    """Return the error for a table without a column that is needed."""
    found = ", ".join(repr(escape(cell)) for cell in header)
    if not found:
        return UserError(
            f"{escape(file)} is empty: give a table with a column "
            f"{' or '.join(COLUMNS[name])}"
        )
    return UserError(
        f"{escape(file)}, read as separated by {SEPARATORS[separator]}, has the "
        f"columns {found}, and none is called {' or '.join(COLUMNS[name])}"
    )


def _holds_predictions(header: Sequence[str]) -> bool:
    """Return whether a header is that of `hybrid-jax predict`, now or formerly.

    Formerly, `class` was the predicted class.
    """
    names = {*map(_plain, header)}
    return "label" not in names and any(
        {"path", predicted, "probability", "error"} <= names
        for predicted in ("predicted", "class")
    )


def _looks_like_groups(name: str, cells: Sequence[str]) -> bool:
    if any(word in _plain(name) for word in GROUP_WORDS):
        return True
    parted = re.sub("(?<=[a-z])(?=[A-Z])", " ", name)  # `plateId`
    is_place = PLACES.search(parted.casefold()) is not None
    return is_place and 1 < len({*cells}) < len(cells)


def _separator(file: Path, text: str, needed: Sequence[str]) -> str:
    """Return the separator that gives the header the columns that are needed.

    If none does, that which the header has most often.
    """
    candidates = "\t,;" if file.suffix.lower() == ".tsv" else ",;\t"
    header = next((s for s in io.StringIO(text, newline="") if s.strip()), "")
    for separator in candidates:
        cells = header.rstrip("\r\n").split(separator)
        if all(_index(name, cells) is not None for name in needed):
            return separator
    return max(candidates, key=header.count)


def _parsed(file: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Return each row that is not blank, with its first line, counted from 1.

    Cells have no spaces around them.

    Raises:
      UserError: a quotation mark is missing, or pairs with that of a later row.
    """
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        skipinitialspace=True,
        strict=True,
    )
    rows, begin = list[tuple[int, list[str]]](), 1
    try:
        for cells in lines:
            columns = len(rows[0][1] if rows else cells)
            if any(_holds_rows(cell, separator, columns) for cell in cells):
                raise UserError(
                    f"{escape(file)}, lines {begin} to {lines.line_num}: one pair of "
                    "quotation marks holds several rows: remove or double the mark "
                    "that does not belong there"
                )
            if len(cells) > 1 or "".join(cells).strip():
                rows.append((begin, [cell.strip() for cell in cells]))
            begin = lines.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{escape(file)}, line {lines.line_num}: {error}; is a quotation mark "
            "missing?"
        ) from None
    return rows


def _holds_rows(cell: str, separator: str, columns: int) -> bool:
    """Return whether a later line of a cell looks like a row that names an image."""
    if "\n" not in cell and "\r" not in cell:
        return False
    for line in re.split("[\r\n]+", cell.strip())[1:]:
        parts = [part.strip(' "').lower() for part in line.split(separator)]
        if (len(parts) > 1 or columns == 1) and any(p.endswith(IMAGES) for p in parts):
            return True
    return False


def _filled(
    file: Path, line: int, cells: Sequence[str], header: Sequence[str]
) -> list[str]:
    """Return as many cells of a row as the header has; missing ones are empty.

    Raises:
      UserError: the row has more cells than the header.
    """
    if len(cells) > len(header):
        raise UserError(
            f"{escape(file)}, line {line}: it has {len(cells)} cells for "
            f"{len(header)} columns; quote a cell that has the separator in it"
        )
    return [*cells] + [""] * (len(header) - len(cells))


def _named(cells: Sequence[str], columns: Mapping[str, int]) -> dict[str, str]:
    """Return the cells of a row by the names in `COLUMNS`."""
    named = {name: cells[index] for name, index in columns.items()}
    return {
        name: "" if (cell := named.get(name, "")).casefold() == "nan" else cell
        for name in COLUMNS
    }


def _index(column: str, header: Sequence[str]) -> int | None:
    """Return the index of a column of `COLUMNS` in a header; None if it has none."""
    plain = [*map(_plain, header)]
    found = (plain.index(n) for n in map(_plain, COLUMNS[column]) if n in plain)
    return next(found, None)


def _plain(name: str) -> str:
    """Return a name in lower case, without quotes, spaces, `_` and `-`."""
    return re.sub('[" _-]', "", name.casefold())
