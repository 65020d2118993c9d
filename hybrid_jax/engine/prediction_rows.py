"""Predictions as rows of a file, CSV or JSON lines, which can be read to go on."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hybrid_jax.engine.run import Prediction
from hybrid_jax.errors import UserError, escape

COLUMNS = ("path", "class", "probability", "error")


class Rows(Protocol):
    """Define a file of rows, one an image."""

    def __init__(self, classes: Sequence[str], top: int): ...

    def header(self) -> str: ...

    def format(self, prediction: Prediction) -> str: ...

    def read(self, path: Path) -> dict[str, bool]: ...


class CsvRows:
    """Write path, class, probability, error, and the probability of each class.

    With `top`, further classes and their probabilities follow, the likeliest first.
    """

    def __init__(self, classes: Sequence[str], top: int):
        """Set the columns up; `top` is 0 for all classes in their order."""
        self._classes, self._top = classes, min(top, len(classes))
        more = range(2, self._top + 1)
        ranked = [f"{name} {i}" for i in more for name in ("class", "probability")]
        self.columns = [*COLUMNS, *(ranked if top else classes)]

    def header(self) -> str:
        """Return the first line."""
        return _csv_line(self.columns)

    def format(self, prediction: Prediction) -> str:
        """Return the line of an image."""
        path, probabilities, error = prediction
        if probabilities is None:
            empty = [""] * (len(self.columns) - len(COLUMNS))
            return _csv_line([escape(path), "", "", error, *empty])
        numbers = [f"{p:.6f}" for p in probabilities]
        ranked = np.argsort(-probabilities, kind="stable")
        best, *others = ranked[: self._top or 1].tolist()
        more: list[str] = numbers
        if self._top:
            more = [text for i in others for text in (self._classes[i], numbers[i])]
        return _csv_line([escape(path), self._classes[best], numbers[best], "", *more])

    def read(self, path: Path) -> dict[str, bool]:
        """Return the paths of an earlier call, and whether each has an error.

        Raises:
          UserError: the file has other columns.
        """
        rows = list(csv.reader(io.StringIO(_whole_lines(path))))
        if not rows:
            return {}
        if rows[0] != self.columns or any(len(r) != len(rows[0]) for r in rows):
            raise UserError(
                f"--output={escape(path)} has other columns than this call writes: "
                "give another file"
            )
        return {row[0]: bool(row[3]) for row in rows[1:]}


class JsonRows:
    """Write an object an image: path, class, probability, and all probabilities."""

    def __init__(self, classes: Sequence[str], top: int):
        """Set the rows up; `top` is 0 for all classes in their order."""
        self._classes, self._top = classes, top

    def header(self) -> str:
        """Return nothing: JSON lines have no header."""
        return ""

    def format(self, prediction: Prediction) -> str:
        """Return the line of an image."""
        path, probabilities, error = prediction
        row: dict[str, Any] = {"path": escape(path)}
        if probabilities is None:
            row["error"] = error
        else:
            numbers = [round(float(p), 6) for p in probabilities]
            ranked = np.argsort(-probabilities, kind="stable").tolist()
            order = ranked[: self._top] if self._top else range(len(numbers))
            row["class"] = self._classes[ranked[0]]
            row["probability"] = numbers[ranked[0]]
            row["probabilities"] = {self._classes[i]: numbers[i] for i in order}
        return json.dumps(row, ensure_ascii=False) + "\n"

    def read(self, path: Path) -> dict[str, bool]:
        """Return the paths of an earlier call, and whether each has an error.

        Raises:
          UserError: a line is no row of this kind.
        """
        try:
            rows = [json.loads(line) for line in _whole_lines(path).splitlines()]
            return {row["path"]: "error" in row for row in rows}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"--output={escape(path)} holds something else than predictions: give "
                "another file"
            ) from None


FORMATS: dict[str, type[Rows]] = {".csv": CsvRows, ".jsonl": JsonRows}


def _csv_line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _whole_lines(path: Path) -> str:
    """Return a file's text, and cut off a last line that was not written whole."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        path.write_bytes(whole)
    return whole.decode(errors="replace")
