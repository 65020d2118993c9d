"""Reader of the user's tables, separated by commas, semicolons or tabs.

Columns are found by any of their common names, in any case, with or without spaces, `_`
and `-`. Errors name the line in an editor.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.errors import UserError, escape

SUFFIXES = (".csv", ".tsv")
COLUMNS = {
    "path": ("path", "image", "file", "filename", "filepath", "image_path"),
    "label": ("label", "class", "target", "category"),
    "split": ("split", "subset", "set"),
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


class Row(NamedTuple):
    """One row: the number of its first line, and its cells by the names in `COLUMNS`.

    The cell of a missing column is empty.
    """

    line: int
    cells: dict[str, str]


class Table(NamedTuple):
    """The rows of a table.

    Attributes:
      rows: the rows.
      columns: the table's own names of the columns in `COLUMNS` that it has.
      other_groups: names of other columns, which look like groups.
    """

    rows: list[Row]
    columns: dict[str, str]
    other_groups: list[str]


def read(file: Path, needed: Sequence[str]) -> Table:
    """Read the rows of a table in UTF-8.

    Args:
      file: the table; its name ends in one of `SUFFIXES`.
      needed: rows of `COLUMNS` that the table must have.

    Raises:
      UserError: the file is no table, lacks a column, or has a row that does not fit
        the header.
    """
    # File names need not be UTF-8.
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise UserError(f"{escape(file)} cannot be read as a table: save it in UTF-8")
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=_delimiter(file, text),
        skipinitialspace=True,
        strict=True,
    )
    try:
        rows_by_line = [*_numbered_rows(lines)]
    except csv.Error as error:
        raise UserError(
            f"{escape(file)}, line {lines.line_num}: {error}; is a quotation mark "
            "missing?"
        ) from None
    header = [cell.strip() for cell in rows_by_line[0][1]] if rows_by_line else []
    columns = _find_columns(file, header, needed)
    rows = []
    for line, cells in rows_by_line[1:]:
        if len(cells) > len(header):
            raise UserError(
                f"{escape(file)}, line {line}: it has {len(cells)} cells for "
                f"{len(header)} columns; quote a cell that has the separator in it"
            )
        filled = [cell.strip() for cell in cells] + [""] * (len(header) - len(cells))
        named = {name: filled[column] for name, column in columns.items()}
        rows.append(Row(line, dict.fromkeys(COLUMNS, "") | named))
    names = {name: header[column] for name, column in columns.items()}
    others = [
        name
        for name in header
        if name not in names.values()
        and any(word in _plain(name) for word in GROUP_WORDS)
    ]
    return Table(rows, names, others)


def _plain(name: str) -> str:
    """Return the name of a column in lower case, without spaces, `_` and `-`."""
    return re.sub("[ _-]", "", name.casefold())


def _numbered_rows(lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, with its first line, counted from 1."""
    begin = 1
    for cells in lines:
        if len(cells) > 1 or "".join(cells).strip():
            yield begin, cells
        begin = lines.line_num + 1


def _delimiter(file: Path, text: str) -> str:
    if file.suffix.lower() == ".tsv":
        return "\t"
    header = next((line for line in text.split("\n") if line.strip()), "")
    return ";" if ";" in header and "," not in header else ","


def _find_columns(
    file: Path, header: list[str], needed: Sequence[str]
) -> dict[str, int]:
    """Return the index of each known column in the header."""
    plain = [*map(_plain, header)]
    columns = {}
    for column_name, names in COLUMNS.items():
        found = [plain.index(name) for name in map(_plain, names) if name in plain]
        if found:
            columns[column_name] = found[0]
    for column_name in needed:
        if column_name not in columns:
            raise UserError(
                f"{escape(file)} has the columns "
                f"{', '.join(map(escape, header)) or 'of nothing'}, and none is called "
                f"{' or '.join(COLUMNS[column_name])}"
            )
    return columns
