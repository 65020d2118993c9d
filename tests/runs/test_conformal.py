"""Prediction sets and typicality: what they promise, and where they come from."""

import csv
import json
import shutil

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax

import hybrid_jax
from hybrid_jax.errors import UserError
from hybrid_jax.main import main
from hybrid_jax.runs.conformal import Conformal, largest_coverage
from tests.experiments import flags
from tests.runs.test_run import write_digits

CLASSES = ("a, b", 'say "c"')  # names that a list in a table must not confuse


def draw(rng, images, classes=5):
    """Labels, and scores of a network that is often wrong."""
    labels = rng.integers(0, classes, images)
    scores = rng.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    return scores, labels


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_sets_hold_the_true_class_as_often_as_stated(coverage):
    rng, draws, images = np.random.default_rng(0), 2000, 39
    exact = coverage * (images + 1)  # a whole number, so the promise is met exactly
    assert exact == pytest.approx(round(exact))
    pure, sets = [], []
    for _ in range(draws):
        conformal = Conformal(*draw(rng, images))
        scores, labels = draw(rng, 20)
        rows = np.arange(20)
        least = conformal.least_probability(coverage, temperature=1.3)
        pure.append(np.mean(softmax(scores / 1.3, axis=1)[rows, labels] >= least))
        included = conformal.sets(scores, coverage, temperature=1.3)
        assert included.any(1).all()
        sets.append(np.mean(included[rows, labels]))
    error = np.std(pure) / draws**0.5
    assert abs(np.mean(pure) - coverage) < 4 * error
    assert np.mean(sets) > coverage - 4 * error


def test_a_tiny_coverage_takes_the_largest_probability_of_a_true_class():
    scores, labels = draw(np.random.default_rng(2), 39)
    found = Conformal(scores, labels).least_probability(1e-12)
    assert found == pytest.approx(softmax(scores, axis=1)[np.arange(39), labels].max())


def test_typicality_is_the_p_value_of_full_conformal_prediction():
    """By the definition: all images take part in judging each, the new one too."""
    rng = np.random.default_rng(1)
    conformal = Conformal(*draw(rng, 700))  # more than are compared at a time
    new = np.concatenate([draw(rng, 30)[0], rng.normal(size=(30, 5)) * 6])
    expected = []
    for scores in new:
        apart = cdist(*[np.concatenate([conformal.scores, scores[None]])] * 2)
        np.fill_diagonal(apart, np.inf)
        strangeness = apart.min(1)
        expected.append(np.mean(strangeness >= strangeness[-1]))
    found = conformal.typicality(new)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.median(found[:30]) > 0.3
    assert np.median(found[30:]) == 1 / 701


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_an_image_that_validation_has_twice_is_as_typical_as_can_be(classes):
    """Its distance is 0, without rounding, as is that of its twins."""
    scores = np.repeat(draw(np.random.default_rng(3), 100, classes)[0], 2, axis=0)
    conformal = Conformal(scores, np.zeros(200, int))
    np.testing.assert_array_equal(conformal.typicality(scores[::2]), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(value):
    conformal = Conformal(*draw(np.random.default_rng(6), 39))
    scores = np.zeros((3, 5))
    scores[1, 2] = value
    for judge in (conformal.typicality, lambda x: conformal.sets(x, 0.8)):
        with pytest.raises(UserError, match="of 1 image are NaN or infinite, first"):
            judge(scores)
    scores[1, 2] = -np.inf  # the logarithm of 0
    assert conformal.sets(scores, 0.8).shape == (3, 5)
    with pytest.raises(UserError, match="NaN or infinite"):
        conformal.sets(np.full((1, 5), -np.inf), 0.8)
    with pytest.raises(UserError, match="NaN or infinite"):
        conformal.typicality(scores)


def test_scores_of_any_numbers_are_judged_and_others_refused():
    conformal = Conformal(*draw(np.random.default_rng(6), 39))
    whole = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    for dtype in (int, np.uint64, np.float16, np.float32):
        scores = whole.astype(dtype)
        for judge in (conformal.typicality, lambda x: conformal.sets(x, 0.8)):
            np.testing.assert_array_equal(judge(scores), judge(whole.astype(float)))
            with pytest.raises(UserError, match="scores are no numbers"):
                judge([["a", "b", "c", "d", "e"]])
            with pytest.raises(UserError, match="scores are masked"):
                judge(np.ma.masked_equal(scores, 4))
    for coverage in (np.array(0.8), np.float32(0.8)):
        np.testing.assert_array_equal(
            conformal.sets(whole, coverage), conformal.sets(whole, 0.8)
        )


def test_one_validation_image_tells_nothing_of_others():
    scores = draw(np.random.default_rng(5), 9)[0]
    conformal = Conformal(scores[:1], np.zeros(1, int))
    np.testing.assert_array_equal(conformal.typicality(scores), 1)


def test_scores_of_other_classes_are_refused():
    conformal = Conformal(*draw(np.random.default_rng(4), 39))
    for scores in (np.zeros((2, 7)), np.zeros(5)):
        for judge in (conformal.typicality, lambda x: conformal.sets(x, 0.8)):
            with pytest.raises(UserError, match=r"\(images, 5\) is needed"):
                judge(scores)


def test_few_images_like_those_of_validation_are_untypical():
    """As few as stated; fewer, since nearest neighbors are often mutual."""
    rng, draws, found = np.random.default_rng(1), 2000, []
    for _ in range(draws):
        conformal = Conformal(*draw(rng, 19))
        found.append(conformal.typicality(draw(rng, 1)[0])[0])
    for level in np.arange(1, 20) / 20:
        share = np.mean(np.array(found) <= level + 1e-9)
        error = (level * (1 - level) / draws) ** 0.5
        assert level - 0.1 < share < level + 3 * error
    assert min(found) == 1 / 20


def test_thresholds_are_those_of_crepes():
    crepes = pytest.importorskip("crepes", reason="pip install crepes compares with it")
    rng = np.random.default_rng(2)
    scores, labels = draw(rng, 57)
    new, _ = draw(rng, 400)
    probabilities, others = softmax(scores, axis=1), softmax(new, axis=1)
    conformal = Conformal(scores, labels)
    classifier = crepes.ConformalClassifier()
    classifier.fit(1 - probabilities[np.arange(57), labels])
    for coverage in (0.6, 0.9, 0.97):
        theirs = classifier.predict_set(
            1 - others, confidence=coverage, smoothing=False
        )
        ours = others >= conformal.least_probability(coverage)
        np.testing.assert_array_equal(ours, theirs == 1)


@pytest.mark.parametrize(
    ("images", "coverage", "least"),
    [(99, 0.07, 6), (9, 0.9, 8), (9, 0.7, 6), (10, 0.9, 9), (1, 0.5, 0)],
)
def test_ranks_are_not_moved_by_rounding(images, coverage, least):
    """The ranks, counted from 0: 100 * 0.07 is 7.000000000000001."""
    scores = np.stack([np.zeros(images), np.linspace(4, -4, images)], 1)
    found = Conformal(scores, np.ones(images, int)).least_probability(coverage)
    assert found == pytest.approx(softmax(scores, axis=1)[least, 1])


@pytest.mark.parametrize("coverage", [0, -0.1, 1.1, 90, float("nan"), "0.9", None])
def test_coverages_that_are_no_shares_are_refused(coverage):
    with pytest.raises(UserError, match="is no share"):
        Conformal(*draw(np.random.default_rng(0), 9)).least_probability(coverage)


@pytest.mark.parametrize("images", [1, 2, 9, 40, 5000])
def test_the_largest_coverage_that_is_named_can_be_promised(images):
    conformal = Conformal(*draw(np.random.default_rng(0), images))
    most = largest_coverage(images)
    conformal.least_probability(most)
    with pytest.raises(UserError, match=f"give {most:g} at most"):
        conformal.least_probability(most + 2e-4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on files, which are gone, and files that it has never seen."""
    folder = tmp_path_factory.mktemp("runs")
    write_digits(folder / "cells" / "train", slice(0, 200), CLASSES)
    write_digits(folder / "cells" / "val", slice(200, 240), CLASSES)
    write_digits(folder / "others", slice(240, 360), CLASSES)
    fields = {"data.name": "folder", "data.path": folder / "cells", "data.per_class": 0}
    more = [f"--config.{name}={value}" for name, value in fields.items()]
    command = ["hybrid-jax", *flags(data__dir=folder / "kept"), *more]
    command += [f"--workdir={folder / 'run'}", "--config.train.keep=9"]
    assert main(command) == 0
    (folder / "cells").rename(folder / "elsewhere")
    shutil.rmtree(folder / "kept")
    return folder


def predict(finished, *more, images="others", run="run"):
    workdir = finished / run
    paths = str(finished / images)
    return main(["hybrid-jax", "predict", f"--workdir={workdir}", paths, *more])


def test_sets_and_typicality_by_command(finished, tmp_path, capsys):
    run = hybrid_jax.load_run(finished / "run")
    table, lines = tmp_path / "rows.csv", tmp_path / "rows.jsonl"
    more = ["--coverage=0.9", "--typicality", "--calibrated", "--top=1"]
    assert predict(finished, *more, f"--output={table}") == 0
    assert predict(finished, *more, f"--output={lines}") == 0
    rows = list(csv.DictReader(table.open()))
    scores = run.scores(sorted((finished / "others").rglob("*.png")))
    sets = run.conformal.sets(scores, 0.9, run.temperature)
    typicality = run.conformal.typicality(scores)
    by_path = {row["path"]: row for row in rows}
    assert len(rows) == 120
    for number, path in enumerate(sorted(by_path)):
        row = by_path[path]
        names = json.loads(row["set at 0.9"])
        assert {*names} == {CLASSES[i] for i in np.flatnonzero(sets[number])}
        assert len(names) == int(row["set size at 0.9"])
        assert names[0] == row["predicted"]
        assert float(row["typicality"]) == pytest.approx(typicality[number], abs=0.03)
    for row, told in zip(rows, map(json.loads, lines.open()), strict=True):
        assert told["set"] == json.loads(row["set at 0.9"])
        assert told["coverage"] == 0.9
        assert told["typicality"] == float(row["typicality"])

    whole = lines.read_text()
    for file in (table, lines):  # go on after half of it, and not with another coverage
        half = "".join(file.read_text().splitlines(keepends=True)[:60])
        file.write_text(half)
        assert predict(finished, *more, f"--output={file}", "--resume") == 0
        other = ["--coverage=0.8", *more[1:], f"--output={file}", "--resume"]
        capsys.readouterr()
        assert predict(finished, *other) == 2
        assert "other" in capsys.readouterr().err
    assert [json.loads(x)["set"] for x in whole.splitlines()] == [
        json.loads(x)["set"] for x in lines.open()
    ]

    assert predict(finished, "--coverage=0.99") == 2
    assert (
        "coverage 0.99 is more than 40 validation images can guarantee: give "
        "0.9756 at most" in capsys.readouterr().err
    )
    assert predict(finished, "--coverage=90") == 2
    assert "a number from 0 to 1" in capsys.readouterr().err


def test_a_run_with_groups_says_for_which_images_its_promises_hold(
    finished, tmp_path, capsys
):
    note = "hold for more images of these groups, not for those of other groups"
    grouped = shutil.copytree(finished / "run", tmp_path / "run")
    about = json.loads((grouped / "data.json").read_text())
    for groups, is_told in (
        ({"train": 9, "validation": 4, "test": 3}, True),
        ({"train": 9}, False),  # of the validation images, nothing is known
    ):
        (grouped / "data.json").write_text(json.dumps(about | {"groups": groups}))
        for flag in ("--typicality", "--coverage=0.9"):
            assert predict(finished, flag, run=grouped) == 0
            said = capsys.readouterr().err
            assert (note in said) == is_told
            assert ("validation images are of 4 groups" in said) == is_told
        assert predict(finished, run=grouped) == 0
        assert note not in capsys.readouterr().err
    assert predict(finished, "--typicality") == 0  # a run without groups
    assert note not in capsys.readouterr().err


def test_scores_are_kept_for_the_tested_weights(finished, tmp_path, capsys):
    kept = finished / "run" / "validation.npz"
    run = hybrid_jax.load_run(finished / "run")
    there = hybrid_jax.load_run(
        finished / "run", data__path=str(finished / "elsewhere")
    )
    split = there.get_split("validation")
    np.testing.assert_array_equal(run.conformal.labels, split.labels)
    np.testing.assert_allclose(run.conformal.scores, there.scores(split), atol=1e-5)
    other = next(
        int(p.name)
        for p in (finished / "run" / "checkpoints").iterdir()
        if p.name.isdigit() and int(p.name) != run.checkpoint
    )
    assert predict(finished, "--typicality", f"--checkpoint={other}") == 2
    said = capsys.readouterr().err
    assert f"no scores of validation images for step {other}" in said
    assert f"take the weights of step {run.checkpoint}, which were tested" in said
    assert said.count("\n") == 1
    there = hybrid_jax.load_run(
        finished / "run", other, data__path=str(finished / "elsewhere")
    )
    computed = there.conformal.scores
    np.testing.assert_array_equal(computed, there.scores(there.get_split("validation")))
    assert not np.allclose(computed, run.conformal.scores)

    shutil.copytree(finished / "run", tmp_path / "run")
    copy = tmp_path / "run" / kept.name
    step, whole = run.checkpoint, copy.read_bytes()
    scores, labels = run.conformal.scores, run.conformal.labels
    for damage in ("half", "pickle", "classes", "labels", "nan"):
        if damage == "half":
            copy.write_bytes(whole[: len(whole) // 2])
        elif damage == "pickle":
            np.savez(copy, step=step, labels=labels, scores=np.array([{}], object))
        elif damage == "classes":
            np.savez(copy, step=step, labels=labels, scores=scores[:, :1])
        elif damage == "labels":
            np.savez(copy, step=step, labels=labels + 1, scores=scores)
        else:
            np.savez(copy, step=step, labels=labels, scores=scores * np.nan)
        loaded = hybrid_jax.load_run(tmp_path / "run")
        said = "validation.npz.*repeat the command that trained it"
        with pytest.raises(UserError, match=said):
            _ = loaded.conformal
        assert "validation.npz" in loaded.notes[-1], damage
    (finished / "elsewhere").rename(finished / "cells")
    try:  # with its images, first damaged, then missing, then run again
        assert predict(finished, "--typicality", run=tmp_path / "run") == 0
        assert "computing scores of the validation images" in capsys.readouterr().err
        copy.unlink()
        assert predict(finished, "--typicality", run=tmp_path / "run") == 0
        assert not copy.exists()
        fields = {"data.path": finished / "cells", "data.name": "folder"}
        more = [
            f"--config.{n}={v}" for n, v in (fields | {"data.per_class": 0}).items()
        ]
        command = ["hybrid-jax", *flags(data__dir=tmp_path / "kept"), *more]
        command += [f"--workdir={tmp_path / 'run'}", "--config.train.keep=9"]
        assert main(command) == 0
        np.testing.assert_allclose(np.load(copy)["scores"], scores, atol=1e-5)
        copy.unlink()
        copy.mkdir()  # what cannot be written is said, and ends no run
        assert main(command) == 0
        assert "validation.npz was not written" in capsys.readouterr().out
    finally:
        (finished / "cells").rename(finished / "elsewhere")
