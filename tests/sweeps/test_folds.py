"""Cross-validation by command: each image once, and wrong labels on top of a list."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

import hybrid_jax
from hybrid_jax import sheets
from hybrid_jax.config.files import load_config
from hybrid_jax.data.sources.file_list import list_images
from hybrid_jax.errors import UserError
from hybrid_jax.evaluation import fold_report, mislabeled, out_of_fold
from hybrid_jax.evaluation.predictions import Predictions
from tests.commands import ROOT
from tests.commands import hybrid_jax as command
from tests.data.files import folder_config

TINY = str(ROOT / "tests" / "sweeps" / "tiny.py")
CLASSES = ("above", "b <é>", "below")
IMAGES, FOLDS, SEEDS = 120, 2, 2
WRONG = range(0, IMAGES, 11)  # images with another label than is drawn


class Lines:
    """Remembers what is printed."""

    def __init__(self):
        self.text = ""

    def say(self, text):
        self.text += f"{text}\n"

    def show(self, shown):
        self.say(shown.title)


class WithoutCleanlab:
    """Finds what is installed, as if cleanlab were not."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "cleanlab":
            raise ModuleNotFoundError(name="cleanlab")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A table of noisy stripes, each tenth or so of them with a wrong label."""
    folder = tmp_path_factory.mktemp("images") / "stripes [1]"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with (folder / "stripes.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label"])
        for row in range(IMAGES):
            drawn = row % 3
            pixels = rng.integers(0, 100, (16, 16, 3))
            pixels[5 * drawn : 5 * drawn + 6] += 130
            name = f"{row:03} é.png"
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            table.writerow([name, CLASSES[(drawn + (row in WRONG)) % 3]])
    return folder


@pytest.fixture(scope="module")
def words(images, tmp_path_factory):
    """What is typed; nothing is varied."""
    fields = {"data.name": "folder", "data.path": images / "stripes.csv"}
    fields |= {"data.per_class": 0, "data.dir": images / "kept"}
    fields |= {"data.test_fraction": 0, "loss.label_smoothing": 0}
    fields |= {"train.epochs": 8, "train.batch_size": 16}
    return [
        "sweep",
        f"--config={TINY}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
        f"--folds={FOLDS}",
        f"--seeds={SEEDS}",
        f"--workdir={tmp_path_factory.mktemp('sweeps') / 's'}",
    ]


@pytest.fixture(scope="module")
def swept(words):
    """What the command printed."""
    done = command(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(words, swept):
    """The sweep's folder; its networks can be made in this process."""
    load_config(TINY, {})
    return Path(words[-1].partition("=")[2])


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def runs_of(folder):
    """The fold of each run's folder."""
    place = folder / "trials" / "0000"
    names = [(k, seed) for k in range(1, FOLDS + 1) for seed in range(SEEDS)]
    return {place / f"fold-{k}-seed-{seed}": k for k, seed in names}


def test_each_image_is_predicted_once_by_runs_that_left_it_out(folder, images):
    rows = read(folder / "out_of_fold.csv")
    paths = [row["path"] for row in rows]
    assert sorted(paths) == sorted(str(path) for path in images.glob("*.png"))
    found = {row["path"]: row for row in rows}
    for fold in range(1, FOLDS + 1):
        members = [
            hybrid_jax.load_run(p) for p, k in runs_of(folder).items() if k == fold
        ]
        left_out = members[0].get_split("validation")
        told = {row["path"] for row in rows if row["fold"] == f"{fold}"}
        assert {*left_out.names} == told
        expected = np.mean([run.predict(left_out.images) for run in members], 0)
        told = [[found[n][c] for c in members[0].classes] for n in left_out.names]
        np.testing.assert_allclose(np.array(told, float), expected, atol=1e-5)


def test_a_checkpoint_that_is_skipped_is_named(folder, tmp_path):
    path, fold = next(iter(runs_of(folder).items()))
    run, said = shutil.copytree(path, tmp_path / "run"), []
    (run / "checkpoints" / "9999").mkdir()
    out_of_fold.predict({run: fold}, said.append)
    assert any(line.startswith("skipping checkpoint") for line in said)


def test_measures_are_those_of_scikit_learn(folder, swept):
    rows = read(folder / "out_of_fold.csv")
    about = json.loads((folder / "out_of_fold.json").read_text(encoding="utf-8"))
    accuracy = about["measures"]["accuracy"]
    assert (about["images"], about["missing"]) == (IMAGES, [])
    true, called = ([row[name] for row in rows] for name in ("label", "predicted"))
    pooled = about["measures"]["balanced_accuracy"]["pooled"]
    expected = metrics.balanced_accuracy_score(true, called)
    assert pooled["value"] == pytest.approx(expected)
    assert pooled["low"] < expected < pooled["high"]
    shares = [
        np.mean([r["label"] == r["predicted"] for r in rows if r["fold"] == f"{fold}"])
        for fold in range(1, FOLDS + 1)
    ]
    assert accuracy["folds"] == pytest.approx(shares)
    # Student's t of one degree of freedom.
    half = 12.7062 * np.std(shares, ddof=1) / np.sqrt(FOLDS)
    ends = max(np.mean(shares) - half, 0), min(np.mean(shares) + half, 1)
    assert accuracy["interval_95"] == pytest.approx(ends, rel=1e-4)
    both = ", ".join(f"{100 * share:.2f}" for share in shares)
    assert f"{100 * np.mean(shares):.2f} % ({both})" in swept
    assert "the mean of 2 seeds" in swept
    assert "To train one run: " in swept
    assert "Starting the cross-validation: 0 of 4 runs have ended" in swept
    lines = [line for line in swept.splitlines() if line.startswith("fold ")]
    assert lines[0].startswith("fold 1, seed 0: validation ")
    assert [line.endswith(" left") for line in lines] == [True, True, True, False]
    assert "winner" not in swept  # nothing was searched
    assert "The same images chose the best step of each run" in swept


def test_what_is_complete_is_not_predicted_again_and_what_is_lost_is_named(
    folder, tmp_path, monkeypatch
):
    copy = tmp_path / "s"
    shutil.copytree(folder, copy)
    about, console = {"trial": 0, "folds": FOLDS}, Lines()
    before = (copy / "out_of_fold.csv").stat().st_mtime_ns
    fold_report.report(copy, runs_of(copy), about, console)
    assert "Predicting" not in console.text
    assert (copy / "out_of_fold.csv").stat().st_mtime_ns == before
    # Without cleanlab, a line says what to install, and the rest is as it was.
    for name in [name for name in sys.modules if name.startswith("cleanlab")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutCleanlab, *sys.meta_path])
    console = Lines()
    fold_report.report(copy, runs_of(copy), about, console)
    assert "needs cleanlab: pip install 'hybrid_jax[labels]'" in console.text
    # A table that a user has corrected is neither believed nor replaced.
    table = copy / "out_of_fold.csv"
    whole = table.read_text(encoding="utf-8")
    header, first, *rest = whole.splitlines(keepends=True)
    cells = first.split(",")
    other = next(name for name in CLASSES if name != cells[1])
    corrected = "".join([header, first.replace(cells[1], other), *rest])
    unknown = "".join([header, first.replace(cells[1], "unclear"), *rest])
    for changed in (corrected, unknown, whole.replace(",", ";"), whole[:-900]):
        table.write_text(changed, encoding="utf-8")
        with pytest.raises(UserError, match=r"out_of_fold\.csv was changed since it w"):
            fold_report.report(copy, runs_of(copy), about, Lines())
        assert table.read_text(encoding="utf-8") == changed
    table.unlink()
    for seed in range(SEEDS):
        shutil.rmtree(copy / "trials" / "0000" / f"fold-2-seed-{seed}")
    console = Lines()
    fold_report.report(copy, runs_of(copy), about, console)
    assert "fold-2-seed-1 is left out: " in console.text
    assert "60 training images without a prediction: " in console.text
    assert "Out-of-fold predictions of 60 images, 1 fold" in console.text
    assert len(read(copy / "out_of_fold.csv")) == 60


def test_wrong_labels_are_found(folder, swept, images):
    pytest.importorskip("cleanlab", reason="pip install 'hybrid_jax[labels]'")
    rows = read(folder / "mislabeled.csv")
    wrong = {str(images / f"{row:03} é.png") for row in WRONG}
    first = {row["path"] for row in rows[: len(wrong)]}
    assert len(first & wrong) >= 0.9 * len(wrong)
    for row in rows:
        if row["path"] in wrong:
            drawn = int(row["path"][-9:-6]) % 3
            assert CLASSES.index(row["label"]) == (drawn + 1) % 3
            assert row["likelier"] == CLASSES[drawn]
    place = folder_config(
        images / "stripes.csv", 0, exclude=str(folder / "mislabeled.csv")
    )
    left_out = list_images(place).excluded
    assert {*map(str, left_out)} == {row["path"] for row in rows}
    assert f"Labels to check: {len(rows)} of {IMAGES} images" in swept
    with Image.open(folder / "mislabeled.png") as sheet:
        assert sheet.width > 400


@pytest.mark.parametrize("mistakes", [4, 5])
def test_a_list_of_labels_to_check_has_a_caution(mistakes, monkeypatch):
    """Where a fifth of the images or more are mistakes, it says little."""
    labels = np.arange(20) % 3
    scores = np.eye(3)[np.where(np.arange(20) < mistakes, labels - 1, labels)] + 0.01
    predictions = Predictions(np.log(scores / scores.sum(1, keepdims=True)), labels)
    names, folds = [f"{row}.png" for row in range(20)], np.ones(20, int)
    found = out_of_fold.OutOfFold(CLASSES, names, folds, predictions)
    suspect = mislabeled.Suspect(0, 0, 2, 0.01, 0.98, 0.01)
    title, caution, *others = mislabeled.in_words(found, [suspect])
    assert title.startswith("Labels to check: 1 of 20 images (the networks agree with ")
    assert "the more of these labels are right" in caution
    warned = [line for line in others if "train better networks first" in line]
    assert len(warned) == (mistakes == 5)
    (only,) = mislabeled.in_words(found, [])
    assert only.startswith("Labels to check: 0 of 20 images")
    drawn = []
    monkeypatch.setattr(
        sheets, "draw_text", lambda _, text, at, *more: drawn.append((text, at))
    )
    image = np.zeros((8, 8, 3), np.uint8)
    mislabeled.sheet(found, [suspect], [image])
    assert [text for text, _ in drawn[:2]] == [title, caution]
    (_, title_y), (_, caution_y), (_, first_y) = [at for _, at in drawn[:3]]
    assert title_y + 16 < caution_y < caution_y + 13 < first_y


def test_a_low_score_says_that_a_label_is_wrong(monkeypatch):
    monkeypatch.setattr(mislabeled, "_ranked", lambda *_: [1, 0])
    scores = np.log([[0.4, 0.2, 0.4], [0.05, 0.9, 0.05]])
    suspects, _ = mislabeled.find(Predictions(scores, np.array([2, 0])), CLASSES)
    assert [each[:3] for each in suspects] == [(1, 0, 1), (0, 2, 0)]
    numbers = [[*each[3:]] for each in suspects]
    np.testing.assert_allclose(numbers, [[0.05, 0.9, 0.075], [0.4, 0.4, 0.5]])


def test_labels_that_nothing_can_be_said_of_are_refused_in_a_line():
    pytest.importorskip("cleanlab", reason="pip install 'hybrid_jax[labels]'")
    rng = np.random.default_rng(0)
    scores = np.log(rng.dirichlet(np.ones(3), 20))
    with pytest.raises(UserError, match="all labels are the same"):
        mislabeled.find(Predictions(scores, np.full(20, 2)), CLASSES)
    labels = np.arange(20) % 2
    broken = np.where(np.arange(20)[:, None] == 3, np.nan, scores)
    with pytest.raises(UserError, match="1 prediction is not finite"):
        mislabeled.find(Predictions(broken, labels), CLASSES)
    labels[0] = 2
    _, notes = mislabeled.find(Predictions(scores, labels), CLASSES)
    assert notes == ["1 class has one image, whose label is not judged: 'below'"]
