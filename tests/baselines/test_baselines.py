"""The ordinary classifiers, against scikit-learn's own search, and the command."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.svm import SVC

from hybrid_jax.baselines import features
from hybrid_jax.baselines.images import feature_size, shrink_images
from hybrid_jax.baselines.methods import BASELINES, RbfSvm
from hybrid_jax.baselines.run import run_baselines
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import load
from hybrid_jax.errors import UserError
from hybrid_jax.evaluation.bootstrap import proportion
from tests.commands import hybrid_jax

FEW = DataConfig("digits", per_class=20, validation=0.3)


@pytest.fixture
def random_images():
    shape = (12, 10, 9, 2)
    return np.random.default_rng(0).integers(256, size=shape).astype(np.float32)


@pytest.fixture
def photographs(tmp_path):
    """Twelve photographs of several shapes, larger than 32 px, in two classes."""
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(256, size=(60 + number, 100 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("method", ["knn", "svm"])
def test_validation_chooses_as_in_scikit_learns_search(method):
    found = run_baselines(FEW, 0, [method])
    (ours,) = found.results
    splits, baseline = load(FEW), BASELINES[method]
    images = [splits[name].images for name in ("train", "validation")]
    labels = [splits[name].labels for name in ("train", "validation")]
    # Of the training images alone, as the search scales none itself.
    scaled = features.pixels(images[0].astype(np.float32), 0)
    search = GridSearchCV(
        baseline.classifier(),
        dict(baseline.grid),
        cv=PredefinedSplit(np.repeat([-1, 0], [*map(len, labels)])),
        refit=False,
    ).fit(scaled(np.concatenate(images)), np.concatenate(labels))
    assert ours.validation_accuracy == pytest.approx(search.best_score_)
    assert ours.parameters == search.best_params_

    everything = np.concatenate(images)
    scaled = features.pixels(everything.astype(np.float32), 0)
    best = baseline.classifier().set_params(**search.best_params_)
    best.fit(scaled(everything), np.concatenate(labels))
    test = splits["test"]
    share, count = best.score(scaled(test.images), test.labels), len(test)
    assert ours.test_accuracy == pytest.approx(share)
    assert ours.train_images == len(everything) == 200
    # Wilson 1927: the roots of (share - p)^2 = z^2 p (1 - p) / n.
    z2 = norm.ppf(0.975) ** 2
    for p in ours.test_interval:
        assert (share - p) ** 2 == pytest.approx(z2 * p * (1 - p) / count)


def test_the_svm_is_scikit_learns():
    rng = np.random.default_rng(0)
    x, held, labels = rng.normal(size=(60, 5)), rng.normal(size=(40, 5)), np.arange(60)
    ours = RbfSvm(C=3, gamma=0.3).fit(x, labels % 3)
    theirs = SVC(C=3, gamma=0.3).fit(x, labels % 3)
    np.testing.assert_array_equal(ours.predict(held), theirs.predict(held))


def test_features_of_patches_are_the_triangle_of_distances(random_images, monkeypatch):
    monkeypatch.setattr(features, "COMPARED", 7)
    encode = features.random_patches(random_images, seed=3)
    encoded = encode(random_images)
    assert encoded.shape == (12, 4 * 7)
    assert encoded.min() >= 0
    assert encoded.std(0).min() > 0
    np.testing.assert_array_equal(
        encoded, features.random_patches(random_images, seed=3)(random_images)
    )
    # Brightness is no part of a patch, and each image stands by itself.
    np.testing.assert_allclose(encode(random_images + 40), encoded, rtol=1e-3)
    np.testing.assert_allclose(encode(random_images[4:5])[0], encoded[4], rtol=1e-5)
    # An image of one color has patches without any contrast.
    assert np.isfinite(encode(np.zeros((1, 10, 9, 2), np.float32))).all()


def test_patches_of_one_number_are_features_too():
    strips = np.random.default_rng(0).random((6, 1, 32, 1)).astype(np.float32)
    assert np.isfinite(features.random_patches(strips, seed=0)(strips)).all()


def test_folds_choose_without_validation_images_and_nothing_is_tested_without_others():
    config = DataConfig("digits", per_class=10, validation=0, test=False)
    found = run_baselines(config, 0, ["knn"])
    assert found.chosen_on == "5-fold cross-validation"
    (result,) = found.results
    assert result.test_accuracy is result.test_interval is None
    assert result.validation_accuracy > 0.7
    assert result.train_images == 100


@pytest.fixture
def copies(tmp_path):
    """Write noise of two classes, four copies of each image; return their folder."""
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(256, size=(16, 16, 3), dtype=np.uint8)
        for copy in range(4):
            Image.fromarray(pixels).save(folder / f"{number}-{copy}.png")
    return tmp_path / "images"


def test_folds_keep_images_of_a_group_together(copies, tmp_path):
    """Otherwise the nearest neighbor of each image would be its own copy."""
    config = DataConfig(
        "folder", path=str(copies), dir=str(tmp_path / "kept"), validation=0, test=False
    )
    assert run_baselines(config, 0, ["knn"]).results[0].validation_accuracy == 1
    grouped = dataclasses.replace(config, group=r"(\d+)-")
    found = run_baselines(grouped, 0, ["knn"])
    assert found.chosen_on == "5-fold cross-validation, with each group in one fold"
    assert 0.2 < found.results[0].validation_accuracy < 0.8
    alone = dataclasses.replace(config, group="(-)", test_fraction=0.0)
    with pytest.raises(UserError, match="of one group"):
        run_baselines(alone, 0, ["knn"])


def test_few_images_or_groups_of_a_class_end_without_a_traceback(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "images" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(256, size=(16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    options = {"path": str(tmp_path / "images"), "dir": str(tmp_path / "kept")}
    config = DataConfig("folder", **options, validation=0, test_fraction=0.0)
    alone = dataclasses.replace(config, group=r"(\d+)\.png")
    assert run_baselines(alone, 0, ["logistic"]).chosen_on.startswith("4-fold")
    by_class = dataclasses.replace(config, group="(a|b|c)/")
    assert run_baselines(by_class, 0, ["logistic"]).results  # two of three classes
    for file in (tmp_path / "images" / "c").iterdir():
        file.rename(tmp_path / "images" / "a" / file.name)
    (tmp_path / "images" / "c").rmdir()
    with pytest.raises(UserError, match="no fold of the training images has two"):
        run_baselines(dataclasses.replace(by_class, group="(a|b)/"), 0, ["logistic"])


def test_the_interval_is_over_groups_of_test_images(copies, tmp_path):
    """Four copies of an image tell as much as one."""
    config = DataConfig(
        "folder",
        path=str(copies),
        dir=str(tmp_path / "kept"),
        group=r"(\d+)-",
        test_fraction=0.5,
    )
    result = run_baselines(config, 0, ["knn"]).results[0]
    images = load(config)["test"]
    wilson = proportion(result.test_accuracy, len(images))
    assert 0.2 < result.test_accuracy < 0.8
    assert np.ptp(result.test_interval) > 1.6 * np.ptp(wilson)


def test_what_would_take_long_is_left_out_and_counted(monkeypatch):
    few = BASELINES["knn"]._replace(most=50)
    monkeypatch.setitem(BASELINES, "knn", few)
    (result,) = run_baselines(FEW, 0, ["knn"]).results
    assert result.train_images == 50
    assert result.notes == (
        "50 of 140 training images, the same share of each class",
        "50 of 200 training images, the same share of each class",
    )


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_photographs_are_shrunk(photographs, loader):
    config = DataConfig(
        "folder", path=str(photographs), image_size=(48, 96), loader=loader
    )
    splits = load(config)
    size = feature_size(splits, config)
    assert size == (16, 32)
    images = shrink_images(splits.train, size, config, "train")
    assert images.shape == (len(splits.train), 16, 32, 3)
    # Noise is averaged, and its mean stays.
    assert 115 < images.mean() < 140
    assert images.std() < 40


def test_the_command_prints_and_writes_a_table(tmp_path):
    target = tmp_path / "a b.json"
    done = hybrid_jax(
        "baselines",
        "--config=digits",
        "--config.data.per_class=10",
        "--config.data.validation=0.3",
        f"--json={target}",
        "--csv=-",
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    written = json.loads(target.read_text())
    assert [row["method"] for row in rows] == [*BASELINES]
    for row, result in zip(rows, written["results"], strict=True):
        assert float(row["test_accuracy"]) == result["test_accuracy"] > 0.7
        assert result["title"].split()[0] in done.stderr
    assert "360 test images, seen at 8x8 px" in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--methods=knn,svn"], "did you mean 'svm'?"),
        (["--methods=,"], "there is no ''; choose from knn"),
        (["--json=nowhere/a.json"], "--json=nowhere/a.json lies in a folder"),
        (["--csv=tests"], "--csv=tests is a folder"),
        (["--csv=setup.py"], "--csv=setup.py exists: give another name, or remove it"),
        (["--json=-", "--csv=-"], "are both -: give two files"),
        (["--json=x", "--csv=./x"], "are both ./x: give two files"),
        (["--methods"], "--methods"),
        (
            ["--config.augment.mixup=0.9"],
            "--config.augment.mixup has no effect on this command, which uses "
            "config.data and config.seed alone: leave it out",
        ),
        (["--config.train.epochs=3"], "--config.train.epochs has no effect on this"),
        (["--config.data.per_class=1", "--config.data.validation=0"], "to choose"),
    ],
)
def test_mistakes_end_in_one_line(flags, said):
    done = hybrid_jax("baselines", "--config=digits", *flags)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert said in lines.pop()
    assert all(line.startswith("preparing digits") for line in lines)  # in no test yet
    assert not done.stdout


def test_images_of_one_class_are_refused(photographs):
    for path in (photographs / "b").iterdir():
        path.unlink()
    (photographs / "b").rmdir()
    done = hybrid_jax(
        "baselines", "--config=folder", f"--config.data.path={photographs}"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_folds_without_two_classes_to_train_on_are_named(tmp_path):
    """All of B is of the group p1; the fold that holds it out trains on A alone."""
    rng = np.random.default_rng(0)
    parts = [("train", "A", "p1 p2 p3", 6), ("train", "B", "p1", 8)]
    parts += [("test", "A", "q1", 5), ("test", "B", "q2", 5)]
    rows = ["path,label,group,split"]
    for split, label, groups, count in parts:
        for group in groups.split():
            for _ in range(count):
                name = f"{len(rows)}.png"
                pixels = rng.integers(256, size=(16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name)
                rows.append(f"{name},{label},{group},{split}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    config = DataConfig("folder", path=str(tmp_path / "t.csv"), validation=0)
    assert run_baselines(config, 0, ["knn"]).chosen_on == (
        "3-fold cross-validation, with each group in one fold; 1 fold left out, with a "
        "single class to train on, so that 12 of 26 images are validated"
    )
