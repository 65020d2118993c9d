"""Rows of predictions are read as they were written, whatever classes are called."""

import csv

import numpy as np
import pytest

from hybrid_jax.engine.prediction_rows import FORMATS, Asked, Judgment, Prediction

CLASSES = ("error", "a\u2028b", "path", 'c,"d"\n')
PREDICTIONS = (
    Prediction("gone\x85.png", None, "cannot be read"),
    Prediction("1\u2028, 2.png", np.array([0.1, 0.2, 0.3, 0.4], np.float32)),
)


@pytest.mark.parametrize("top", [0, 1, 3])
@pytest.mark.parametrize("kind", FORMATS)
def test_rows_are_read_as_they_were_written(kind, top, tmp_path):
    rows, path = FORMATS[kind](CLASSES, top, Asked()), tmp_path / f"rows{kind}"
    lines = [rows.format(prediction, Judgment()) for prediction in PREDICTIONS]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(rows.header() + "".join(lines) + "cut o")
    written = path.read_bytes()
    found = rows.read(path)
    assert written[found.size :] == b"cut o"
    assert path.read_bytes() == written  # until it is known to be the right file
    assert found.errors == {"gone\x85.png": True, "1\u2028, 2.png": False}
    assert found.path == "1\u2028, 2.png"
    expected = sorted(PREDICTIONS[1].probabilities.tolist(), reverse=True)[:top]
    expected = expected or PREDICTIONS[1].probabilities.tolist()
    assert found.numbers == pytest.approx(expected)


def test_each_column_has_a_name_of_its_own(tmp_path):
    rows = FORMATS[".csv"](CLASSES, 0, Asked())
    (names,) = csv.reader([rows.header()])
    assert len({*names}) == len(names)
    assert names[4:] == [
        "probability of error",
        "a\u2028b",
        "probability of path",
        CLASSES[3],
    ]
