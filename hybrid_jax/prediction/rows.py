"""Write predictions as rows of CSV or JSON lines, and read them back to resume."""

import csv
import heapq
import io
import json
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from hybrid_jax.csv_text import csv_text
from hybrid_jax.errors import UserError, escape
from hybrid_jax.runs.prediction import Prediction

COLUMNS = ("path", "predicted", "probability", "error")
CHECKED = 8  # images of a file that are predicted again before it is continued


class Judgment(NamedTuple):
    """The judgment of a prediction by validation images; None for what is not asked.

    Attributes:
      included: bool `[classes]`, which classes are in the prediction set.
      typicality: p-value in (0, 1], see `conformal`.
    """

    included: np.ndarray | None = None
    typicality: float | None = None


class Asked(NamedTuple):
    """What to write besides probabilities.

    Attributes:
      coverage: coverage of the prediction sets; None writes no sets.
      typicality: whether to write the typicality.
    """

    coverage: float | None = None
    typicality: bool = False


class Written(NamedTuple):
    """The content of a file that an earlier call wrote.

    Attributes:
      errors: for the path of each image, whether it could not be read.
      least_sure: probabilities of up to `CHECKED` images, as they were written, by
        path: those of the given images whose largest probability is smallest. Networks
        differ most in them.
      size: number of bytes before a last line that was cut off, or of the whole file.
    """

    errors: dict[str, bool]
    least_sure: dict[str, list[float]]
    size: int = 0

    @property
    def predicted(self) -> int:
        """Number of images that were predicted."""
        return len(self.errors) - sum(self.errors.values())

    def partition(self, paths: Sequence[Path]) -> tuple[list[Path], list[Path], int]:
        """Return the least sure images and the missing ones; count the unreadable."""
        names = {path: escape(path) for path in paths}
        again = [path for path in paths if names[path] in self.least_sure]
        missing = [path for path in paths if names[path] not in self.errors]
        unreadable = [path for path in paths if self.errors.get(names[path])]
        return again, missing, len(unreadable)


class Rows(Protocol):
    """A file format with one row per image."""

    def __init__(self, classes: Sequence[str], top: int, asked: Asked): ...

    def header(self) -> str: ...

    def format(self, prediction: Prediction, judgment: Judgment) -> str: ...

    def numbers(self, line: str) -> list[float]: ...

    def read(self, path: Path, given: Container[str]) -> Written: ...


class CsvRows:
    """CSV rows: `COLUMNS`, and the probability of each class.

    With `top`, the next most probable classes follow instead, with their probabilities.
    A prediction set is written as its size and a JSON list of its classes, the most
    probable first; the names of both columns contain the coverage.
    """

    def __init__(self, classes: Sequence[str], top: int, asked: Asked):
        """Set up the columns; `top` is 0 for all classes in their order."""
        self._classes, self._top = classes, min(top, len(classes))
        more = range(2, self._top + 1)
        ranked = [f"{name} {i}" for i in more for name in ("predicted", "probability")]
        judged = []
        if asked.coverage is not None:
            judged += [f"{name} at {asked.coverage!r}" for name in ("set size", "set")]
        if asked.typicality:
            judged.append("typicality")
        about = [*COLUMNS, *judged]
        # In tables about images, `label` is the true class.
        names = class_columns(classes, [*about, "label"])
        self.columns = [*about, *(ranked if top else names)]

    def header(self) -> str:
        """Return the first line."""
        return csv_text([self.columns])

    def format(self, prediction: Prediction, judgment: Judgment) -> str:
        """Return the line of an image."""
        path, probabilities, error, _ = prediction
        if probabilities is None:
            empty = [""] * (len(self.columns) - len(COLUMNS))
            return csv_text([[escape(path), "", "", error, *empty]])
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
        about = [escape(path), self._classes[best], numbers[best], ""]
        return csv_text([[*about, *judged, *more]])

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

    def read(self, path: Path, given: Container[str]) -> Written:
        """Return what an earlier call has written.

        Args:
          path: the file.
          given: paths of images, in printable form; others are not in `least_sure`.

        Raises:
          UserError: the file has other columns, or words for probabilities.
        """
        text, size = _whole_lines(path, self.header(), has_quotes=True)
        csv.field_size_limit(max(len(text), csv.field_size_limit()))  # long sets
        rows = list(csv.reader(io.StringIO(text, newline="")))
        if not rows:
            return Written({}, {})
        if rows[0] != self.columns or any(len(r) != len(rows[0]) for r in rows):
            raise _other_columns(path)
        errors = {row[0]: bool(row[3]) for row in rows[1:]}
        good = (row for row in rows[1:] if not row[3] and row[0] in given)
        try:
            chosen = heapq.nsmallest(CHECKED, good, key=lambda row: float(row[2]))
            numbers = {row[0]: self.numbers(csv_text([row])) for row in chosen}
        except ValueError:
            raise _other_content(path) from None
        return Written(errors, numbers, size)


class JsonRows:
    """JSON lines: an object per image, with the predicted class and probabilities.

    A prediction set is written as a list of its classes, the most probable first, and
    its coverage.
    """

    def __init__(self, classes: Sequence[str], top: int, asked: Asked):
        """Set up the rows; `top` is 0 for all classes in their order."""
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
            row["predicted"] = self._classes[ranked[0]]
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

    def read(self, path: Path, given: Container[str]) -> Written:
        """Return what an earlier call has written; see `CsvRows.read`.

        Raises:
          UserError: a line is not such a row, or has other entries.
        """
        text, size = _whole_lines(path, '{"path": "')
        lines = text.split("\n")[:-1]  # names may hold other line ends
        try:
            rows = [json.loads(line) for line in lines]
            errors = {row["path"]: "error" in row for row in rows}
            good = (
                (row["probability"], row["path"], line)
                for row, line in zip(rows, lines, strict=True)
                if "error" not in row and row["path"] in given
            )
            chosen = heapq.nsmallest(CHECKED, good)
            numbers = {name: self.numbers(line) for _, name, line in chosen}
            asked = {
                (r.get("coverage"), "typicality" in r) for r in rows if "error" not in r
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _other_content(path) from None
        if any("error" not in row and "predicted" not in row for row in rows):
            raise _other_columns(path)
        if asked - {self._asked}:
            raise UserError(
                f"--output={escape(path)} was written with another --coverage or "
                "--typicality: give another file"
            )
        return Written(errors, numbers, size)


FORMATS: dict[str, type[Rows]] = {".csv": CsvRows, ".jsonl": JsonRows}


def class_columns(classes: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return a column name for each class's probability, different from `others`."""
    return [f"probability of {name}" if name in others else name for name in classes]


def _names(
    classes: Sequence[str], ranked: Iterable[int], included: np.ndarray
) -> list[str]:
    """Return the names of the classes in a set, in the order of `ranked`."""
    return [classes[i] for i in ranked if included[i]]


def _whole_lines(
    path: Path, beginning: str, has_quotes: bool = False
) -> tuple[str, int]:
    """Return a file's text without a last line that was cut off, and its bytes.

    Args:
      path: the file, which may be another one than predictions.
      beginning: how a file of predictions begins.
      has_quotes: whether lines may go on within quotes, as in CSV.

    Raises:
      UserError: the file has no whole line, and does not begin so.
    """
    content, start = path.read_bytes(), beginning.encode()
    whole = content[: content.rfind(b"\n") + 1]
    while has_quotes and whole.count(b'"') % 2:  # the last ones are of a row cut off
        whole = whole[: whole[:-1].rfind(b"\n") + 1]
    common = min(len(content), len(start))
    if not whole and content[:common] != start[:common]:
        raise _other_content(path)
    return whole.decode(errors="replace"), len(whole)


def _other_columns(path: Path) -> UserError:
    return UserError(
        f"--output={escape(path)} has other columns than this call writes: give "
        "another file"
    )


def _other_content(path: Path) -> UserError:
    return UserError(
        f"--output={escape(path)} holds something other than predictions: give "
        "another file"
    )
