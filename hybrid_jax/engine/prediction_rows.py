"""Predictions as rows of a file, CSV or JSON lines, which can be read to go on."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from hybrid_jax.errors import UserError, escape

COLUMNS = ("path", "class", "probability", "error")


class Prediction(NamedTuple):
    """Hold what a network predicts of one image file.

    Attributes:
      path: of the file.
      probabilities: float32 `[classes]`; None where the file cannot be read.
      error: why it cannot be read; empty if it can.
      differences: from the run's images, in words: `in color turned to gray, ...`.
    """

    path: str
    probabilities: np.ndarray | None
    error: str = ""
    differences: tuple[str, ...] = ()


class Judgment(NamedTuple):
    """Hold what validation images say of a prediction, where that was asked for.

    Attributes:
      included: bool `[classes]`, those in the prediction set.
      typicality: from 0 to 1.
    """

    included: np.ndarray | None = None
    typicality: float | None = None


class Asked(NamedTuple):
    """Say what is asked for beside probabilities.

    Attributes:
      coverage: of prediction sets; None for none.
      typicality: whether to write it.
    """

    coverage: float | None = None
    typicality: bool = False


class Written(NamedTuple):
    """Hold what a file of an earlier call has already.

    Attributes:
      errors: whether an image could not be read, by its path.
      path: of the first image that was predicted; empty if none was.
      numbers: its probabilities, as they were written.
    """

    errors: dict[str, bool]
    path: str = ""
    numbers: Sequence[float] = ()


class Rows(Protocol):
    """Define a file of rows, one an image."""

    def __init__(self, classes: Sequence[str], top: int, asked: Asked): ...

    def header(self) -> str: ...

    def format(self, prediction: Prediction, judgment: Judgment) -> str: ...

    def numbers(self, line: str) -> list[float]: ...

    def read(self, path: Path) -> Written: ...


class CsvRows:
    """Write path, class, probability, error, and the probability of each class.

    With `top`, further classes and their probabilities follow, the likeliest first.
    A prediction set is its size and a JSON list of its classes, the likeliest first.
    The names of their columns hold the coverage.
    """

    def __init__(self, classes: Sequence[str], top: int, asked: Asked):
        """Set the columns up; `top` is 0 for all classes in their order."""
        self._classes, self._top, self._asked = classes, min(top, len(classes)), asked
        more = range(2, self._top + 1)
        ranked = [f"{name} {i}" for i in more for name in ("class", "probability")]
        judged = []
        if asked.coverage is not None:
            judged += [f"{name} at {asked.coverage!r}" for name in ("set size", "set")]
        if asked.typicality:
            judged.append("typicality")
        about = [*COLUMNS, *judged]
        self.columns = [*about, *(ranked if top else class_columns(classes, about))]

    def header(self) -> str:
        """Return the first line."""
        return _csv_line(self.columns)

    def format(self, prediction: Prediction, judgment: Judgment) -> str:
        """Return the line of an image."""
        path, probabilities, error, _ = prediction
        if probabilities is None:
            empty = [""] * (len(self.columns) - len(COLUMNS))
            return _csv_line([escape(path), "", "", error, *empty])
        numbers = [f"{p:.6f}" for p in probabilities]
        ranked = np.argsort(-probabilities, kind="stable")
        best, *others = ranked[: self._top or 1].tolist()
        more: list[str] = numbers
        if self._top:
            more = [text for i in others for text in (self._classes[i], numbers[i])]
        judged = []
        if judgment.included is not None:
            names = _names(self._classes, ranked, judgment.included)
            judged += [str(len(names)), json.dumps(names, ensure_ascii=False)]
        if judgment.typicality is not None:
            judged.append(f"{judgment.typicality:.6f}")
        told = [escape(path), self._classes[best], numbers[best], ""]
        return _csv_line([*told, *judged, *more])

    def numbers(self, line: str) -> list[float]:
        """Return the probabilities in a line, in their order."""
        (cells,) = csv.reader([line])
        others = cells[len(self.columns) - len(self._classes) :]
        if self._top:
            others = [
                cells[2],
                *cells[len(self.columns) - 2 * (self._top - 1) + 1 :: 2],
            ]
        return [*map(float, others)]

    def read(self, path: Path) -> Written:
        """Return what an earlier call has written.

        Raises:
          UserError: the file has other columns.
        """
        rows = list(csv.reader(io.StringIO(_whole_lines(path), newline="")))
        if not rows:
            return Written({})
        if rows[0] != self.columns or any(len(r) != len(rows[0]) for r in rows):
            raise UserError(
                f"--output={escape(path)} has other columns than this call writes: "
                "give another file"
            )
        errors = {row[0]: bool(row[3]) for row in rows[1:]}
        for row in rows[1:]:
            if not row[3]:
                return Written(errors, row[0], self.numbers(_csv_line(row)))
        return Written(errors)


class JsonRows:
    """Write an object an image: path, class, probability, and all probabilities.

    A prediction set is a list of its classes, the likeliest first, and its coverage.
    """

    def __init__(self, classes: Sequence[str], top: int, asked: Asked):
        """Set the rows up; `top` is 0 for all classes in their order."""
        self._classes, self._top, self._asked = classes, top, asked

    def header(self) -> str:
        """Return nothing: JSON lines have no header."""
        return ""

    def format(self, prediction: Prediction, judgment: Judgment) -> str:
        """Return the line of an image."""
        path, probabilities, error, _ = prediction
        row: dict[str, Any] = {"path": escape(path)}
        if probabilities is None:
            row["error"] = error
        else:
            numbers = [round(float(p), 6) for p in probabilities]
            ranked = np.argsort(-probabilities, kind="stable").tolist()
            order = ranked[: self._top] if self._top else range(len(numbers))
            row["class"] = self._classes[ranked[0]]
            row["probability"] = numbers[ranked[0]]
            if judgment.included is not None:
                row["coverage"] = self._asked.coverage
                row["set"] = _names(self._classes, ranked, judgment.included)
            if judgment.typicality is not None:
                row["typicality"] = round(judgment.typicality, 6)
            row["probabilities"] = {self._classes[i]: numbers[i] for i in order}
        return json.dumps(row, ensure_ascii=False) + "\n"

    def numbers(self, line: str) -> list[float]:
        """Return the probabilities in a line, in their order."""
        return [*json.loads(line)["probabilities"].values()]

    def read(self, path: Path) -> Written:
        """Return what an earlier call has written.

        Raises:
          UserError: a line is no row of this kind.
        """
        lines = _whole_lines(path).split("\n")[:-1]  # names may hold other line ends
        try:
            rows = [json.loads(line) for line in lines]
            errors = {row["path"]: "error" in row for row in rows}
            good = [i for i, row in enumerate(rows) if "error" not in row][:1]
            found = Written(errors)
            for i in good:
                found = Written(errors, rows[i]["path"], self.numbers(lines[i]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"--output={escape(path)} holds something else than predictions: give "
                "another file"
            ) from None
        told = {
            (r.get("coverage"), "typicality" in r) for r in rows if "error" not in r
        }
        if told - {self._asked}:
            raise UserError(
                f"--output={escape(path)} was written with another --coverage or "
                "--typicality: give another file"
            )
        return found


FORMATS: dict[str, type[Rows]] = {".csv": CsvRows, ".jsonl": JsonRows}


def class_columns(classes: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the columns of classes' probabilities, beside columns of other names."""
    return [f"probability of {name}" if name in others else name for name in classes]


def _names(
    classes: Sequence[str], ranked: Iterable[int], included: np.ndarray
) -> list[str]:
    """Return the names of the classes in a set, the likeliest first."""
    return [classes[i] for i in ranked if included[i]]


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
