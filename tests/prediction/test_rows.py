"""Rows of predictions are read as they were written, whatever classes are called."""

import csv
import json

import numpy as np
import pytest

from hybrid_jax.errors import UserError
from hybrid_jax.prediction.rows import (
    CHECKED,
    FORMATS,
    Asked,
    Judgment,
)
from hybrid_jax.runs.prediction import Prediction

CLASSES = ("error", "a\u2028\rb", "path", 'c,"d"\n')
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
    found = rows.read(path, {"1\u2028, 2.png", "gone\x85.png", "later.png"})
    assert written[found.size :] == b"cut o"
    assert path.read_bytes() == written  # until it is known to be the right file
    assert found.errors == {"gone\x85.png": True, "1\u2028, 2.png": False}
    assert found.predicted == 1
    assert rows.read(path, {"later.png"}).least_sure == {}
    expected = sorted(PREDICTIONS[1].probabilities.tolist(), reverse=True)[:top]
    expected = expected or PREDICTIONS[1].probabilities.tolist()
    assert found.least_sure == {"1\u2028, 2.png": pytest.approx(expected)}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_may_be_cut_off_anywhere(kind, tmp_path):
    """Also within a name that has a line break, or quotes."""
    rows, path = FORMATS[kind](CLASSES[:2], 0, Asked()), tmp_path / f"rows{kind}"
    made = [
        Prediction(f'{number}\n"a",\nb.png', np.array([0.75, 0.25])) for number in "12"
    ]
    first, last = (rows.format(prediction, Judgment()) for prediction in made)
    for end in range(len(last)):
        path.write_bytes((rows.header() + first + last[:end]).encode())
        found = rows.read(path, {prediction.path for prediction in made})
        assert (found.predicted, [*found.errors]) == (1, [made[0].path])
        assert found.size == len((rows.header() + first).encode())


@pytest.mark.parametrize("kind", FORMATS)
def test_the_least_sure_of_the_images_that_are_given_are_found(kind, tmp_path):
    rows, path = FORMATS[kind](CLASSES[:2], 0, Asked()), tmp_path / f"rows{kind}"
    sure = np.random.default_rng(0).permutation(np.linspace(0.51, 0.99, 49))
    likely = {f"{number}.png": p for number, p in enumerate(sure)}
    made = [Prediction(name, np.array([1 - p, p])) for name, p in likely.items()]
    lines = [rows.format(prediction, Judgment()) for prediction in made]
    path.write_text(rows.header() + "".join(lines), encoding="utf-8")
    given = {name for name, p in likely.items() if p > 0.6}
    found = rows.read(path, given)
    assert found.predicted == 49
    assert {*found.least_sure} == {*sorted(given, key=likely.get)[:CHECKED]}
    for name, numbers in found.least_sure.items():
        assert numbers == pytest.approx([1 - likely[name], likely[name]], abs=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_of_earlier_columns_are_not_continued(kind, tmp_path):
    rows, path = FORMATS[kind](CLASSES[:2], 0, Asked()), tmp_path / f"rows{kind}"
    text = rows.header() + rows.format(PREDICTIONS[0], Judgment())
    text += rows.format(Prediction("1.png", np.array([0.1, 0.9])), Judgment())
    assert text.count("predicted") == 1
    path.write_text(text.replace("predicted", "class"), encoding="utf-8")
    with pytest.raises(UserError, match="has other columns than this call writes"):
        rows.read(path, {"1.png"})


def test_no_class_takes_the_column_of_true_classes():
    rows = FORMATS[".csv"](("label", "b"), 0, Asked())
    assert rows.header().rstrip() == (
        "path,predicted,probability,error,probability of label,b"
    )


def test_words_for_probabilities_are_no_predictions(tmp_path):
    rows, path = FORMATS[".csv"](CLASSES[:2], 0, Asked()), tmp_path / "rows.csv"
    path.write_text(f"{rows.header()}a.png,error,high,,0.9,0.1\n", encoding="utf-8")
    with pytest.raises(UserError, match="something other than predictions"):
        rows.read(path, {"a.png"})


def test_each_column_has_a_name_of_its_own(tmp_path):
    rows = FORMATS[".csv"](CLASSES, 0, Asked())
    (names,) = csv.reader([rows.header()])
    assert len({*names}) == len(names)
    assert names[4:] == [
        "probability of error",
        CLASSES[1],
        "probability of path",
        CLASSES[3],
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_classes_of_a_set_are_ranked(kind):
    rows = FORMATS[kind](("a", "b", "c"), 0, Asked(0.9))
    prediction = Prediction("x.png", np.array([0.2, 0.3, 0.5]))
    line = rows.format(prediction, Judgment(np.array([True, False, True])))
    if kind == ".jsonl":
        assert json.loads(line)["set"] == ["c", "a"]
    else:
        (cells,) = csv.DictReader([rows.header(), line])
        assert (cells["set size at 0.9"], cells["set at 0.9"]) == ("2", '["c", "a"]')
