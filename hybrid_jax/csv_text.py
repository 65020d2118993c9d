"""Write tables as CSV: lines end with a newline, and any text can be read back."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as CSV; None becomes an empty cell."""
    return "".join(map(_line, rows))


def csv_of_dicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return CSV with a column for each key of any row; a missing value is empty."""
    names = dict.fromkeys(name for row in rows for name in row)
    return csv_text([names, *([row.get(name) for name in names] for row in rows)])


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    # With this end of a line, cells with either of its characters are quoted.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"
