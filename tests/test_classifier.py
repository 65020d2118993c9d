"""The estimator, by the checks of scikit-learn that apply to images, and by its run."""

import copy
import json
import pickle
import re
import types
from functools import partial

import matplotlib
import numpy as np
import pytest
import scipy.special
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import hybrid_jax
from hybrid_jax import Classifier
from hybrid_jax.augment.affine import SYMMETRIES
from hybrid_jax.config.resolve import default
from hybrid_jax.data.sources.estimator_inputs import count_trained
from hybrid_jax.errors import UserError
from hybrid_jax.programs import compile as compiling
from hybrid_jax.runs.saved_network import ABOUT, WEIGHTS
from tests.experiments import small

NAMES = np.array(["seven", "one", "drei", "zero"], object)  # in no order


def config_of(changes):
    """The defaults with other values."""
    config = default()
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def images():
    """The digits 0 to 3 in an array, 120 of them, and their labels."""
    pixels, labels = load_digits(n_class=4, return_X_y=True)
    pixels = np.round(pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    return pixels[:120], labels[:120]


def untrained(**parameters) -> Classifier:
    """A classifier of the small hybrid; those of as many images share programs."""
    config = small(
        data__per_class=0,
        optim__ema_decay=0.0,
        train__eval_every=3,
        optim__learning_rate=1e-2,
    )
    return Classifier(config=config, **{"steps": 30} | parameters)


@pytest.fixture(scope="module")
def fitted(images, tmp_path_factory):
    """One trained on names, in a folder."""
    x, y = images
    workdir = tmp_path_factory.mktemp("runs") / "Läufe [1]"
    return untrained(workdir=workdir).fit(x, NAMES[y])


@pytest.fixture(scope="module")
def numbered(images):
    """One trained on numbers."""
    return untrained(steps=3).fit(*images)


def test_parameters_are_kept_as_they_are_given():
    classifier = untrained(learning_rate=3e-3)
    assert classifier.get_params()["learning_rate"] == 3e-3
    assert classifier.set_params(steps=5) is classifier
    assert classifier.get_params()["steps"] == 5
    copied = clone(classifier)
    assert copied.get_params().keys() == classifier.get_params().keys()
    assert copied.config.to_dict() == classifier.config.to_dict()
    with pytest.raises(ValueError, match="dept"):
        classifier.set_params(dept=3)
    assert "learning_rate=0.003" in repr(classifier)


def test_each_symmetry_is_documented():
    assert all(f"`{name}`" in Classifier.__doc__ for name in SYMMETRIES)


def test_what_needs_training_says_so(images):
    classifier = untrained()
    for call in (
        classifier.predict,
        classifier.predict_proba,
        classifier.decision_function,
        classifier.save,
    ):
        with pytest.raises(NotFittedError):
            call(images[0])
    with pytest.raises(NotFittedError):
        classifier.plot_history()


def test_predictions_agree_with_each_other_and_with_the_run(fitted, images):
    x, y = images
    before = x.copy()
    probabilities, scores = fitted.predict_proba(x), fitted.decision_function(x)
    predicted = fitted.predict(x)
    assert fitted.classes_.tolist() == sorted(NAMES)
    assert predicted.dtype == NAMES.dtype
    np.testing.assert_array_equal(predicted, fitted.classes_[probabilities.argmax(1)])
    np.testing.assert_allclose(
        scipy.special.softmax(scores, 1), probabilities, atol=1e-5
    )
    np.testing.assert_array_equal(probabilities, fitted.predict_proba(x))
    np.testing.assert_array_equal(x, before)
    weights = np.arange(len(y))
    assert fitted.score(x, NAMES[y], weights) == pytest.approx(
        accuracy_score(NAMES[y], predicted, sample_weight=weights)
    )
    assert fitted.score(x, NAMES[y]) > 0.5  # of four classes
    found = fitted.run_.evaluate(x, NAMES[y])["accuracy"]
    assert fitted.score(x, NAMES[y]) == pytest.approx(found)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["10", "9", "100", "1"]),  # text, which the engine sorts as numbers
        np.array([-3, 7, 0, 200], object),
        np.array([np.int64(-3), np.int64(7), np.int64(0), np.int64(200)], object),
        np.array([1.0, 2.0, 3.0, 4.0]),
        NAMES,
    ],
    ids=lambda labels: str(labels.dtype) + str(labels[0]),
)
def test_labels_of_each_type_come_back(labels, images, tmp_path):
    x, y = images
    classifier = untrained().fit(x, labels[y])
    np.testing.assert_array_equal(classifier.classes_, np.unique(labels))
    predicted = classifier.predict(x)
    assert predicted.dtype == labels.dtype
    # Another order of the columns would leave a quarter right, or less.
    assert classifier.score(x, labels[y]) > 0.4
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    assert loaded.classes_.dtype == labels.dtype
    np.testing.assert_array_equal(loaded.predict(x), predicted)


def test_fitting_again_forgets_what_was_learned(fitted, images):
    x, y = images
    classifier = untrained()
    assert classifier.fit(x, (y > 1).tolist()) is classifier
    assert classifier.classes_.tolist() == [False, True]
    assert classifier.predict(x).dtype == bool
    scores = classifier.decision_function(x)  # one for both
    assert scores.shape == (len(x),)
    np.testing.assert_allclose(
        scipy.special.expit(scores), classifier.predict_proba(x)[:, 1], atol=1e-5
    )
    classifier.fit(x, NAMES[y])
    assert classifier.history_[-1]["loss"] == fitted.history_[-1]["loss"]
    np.testing.assert_array_equal(classifier.predict_proba(x), fitted.predict_proba(x))


def test_pickles_and_copies_predict_the_same(fitted, images):
    x = images[0]
    expected = fitted.predict_proba(x)
    content = pickle.dumps(fitted)
    assert len(content) < 500_000  # 32,000 parameters, and no program
    again = pickle.loads(pickle.dumps(pickle.loads(content)))  # noqa: S301
    for found in (again, copy.deepcopy(fitted)):
        np.testing.assert_array_equal(found.predict_proba(x), expected)
        assert found.history_ == fitted.history_


def test_folds_share_programs_and_grids_take_fields(images, monkeypatch):
    x, y = images
    compiled, compile_one = [], compiling.Program._compile
    monkeypatch.setattr(
        compiling.Program,
        "_compile",
        lambda self, lowered: compiled.append(1) or compile_one(self, lowered),
    )
    folds = [(np.arange(n), np.arange(80, 120)) for n in (80, 79)]
    scores = cross_val_score(untrained(), x, NAMES[y], cv=folds)
    assert scores.shape == (2,)
    assert scores.mean() > 0.4
    once = len(compiled)
    assert once <= 4  # initialization, training, evaluation, prediction
    grid = {"learning_rate": np.array([1e-2]), "random_state": [0, 1]}
    search = GridSearchCV(untrained(), grid, cv=folds[:1]).fit(x, y)
    assert search.best_params_.keys() == grid.keys()
    assert len(search.cv_results_["params"]) == 2
    assert len(compiled) <= once + 3  # all but prediction anew, to refit on all
    assert search.predict(x[:3]).shape == (3,)


def test_pipelines_and_calibration(fitted, images):
    x, y = images
    pixels = [("pixels", FunctionTransformer(lambda x: np.round(x * 255).astype("u1")))]
    pipeline = Pipeline([*pixels, ("classifier", untrained())]).fit(x / 255, y)
    assert pipeline.predict(x[:5] / 255).shape == (5,)
    assert pipeline[-1].run_.form.channels == 1
    calibrated = CalibratedClassifierCV(FrozenEstimator(fitted), method="temperature")
    calibrated.fit(x[..., None], NAMES[y])
    probabilities = calibrated.predict_proba(x[..., None])
    np.testing.assert_array_equal(
        probabilities.argmax(1), fitted.predict_proba(x).argmax(1)
    )
    temperature = 1 / calibrated.calibrated_classifiers_[0].calibrators[0].beta_
    expected = scipy.special.softmax(fitted.decision_function(x) / temperature, 1)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_paths_are_read_like_arrays(fitted, images, tmp_path):
    x, y = images[0], NAMES[images[1]]
    (tmp_path / "[ä]").mkdir()
    paths = as_files(tmp_path / "[ä]", x)
    of_paths = untrained().fit([*map(str, paths)], y)
    expected = fitted.predict_proba(x)
    np.testing.assert_array_equal(of_paths.predict_proba(paths), expected)
    np.testing.assert_array_equal(of_paths.predict_proba(x), expected)
    np.testing.assert_array_equal(
        of_paths.predict(np.array(paths, object)), fitted.predict(x)
    )
    np.testing.assert_array_equal(
        of_paths.decision_function(paths), fitted.decision_function(x)
    )
    for given in ([*map(Image.open, paths)], [x[0], *x[1:, ..., None]]):
        np.testing.assert_array_equal(fitted.predict_proba(given), expected)
        np.testing.assert_array_equal(
            fitted.decision_function(given), fitted.decision_function(x)
        )
    with pytest.raises(ValueError, match=r"^X: images are \[8, 8\].* images\[None\]"):
        fitted.predict(x[0])
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = [*paths[:-1], tmp_path / "broken.png"]
    for call in (
        lambda: untrained().fit(broken, y),
        lambda: of_paths.predict(broken),
        lambda: of_paths.decision_function(broken),
    ):
        with pytest.raises(ValueError, match=r"broken\.png"):
            call()
    skipping = untrained()
    skipping.config.data.on_error = "skip"
    with pytest.warns(UserWarning, match=r"1 image skipped, .*broken\.png"):
        skipping.fit([*paths, tmp_path / "broken.png"], [*y, "one"])
    assert any("1 image skipped" in note for note in skipping.run_.notes)
    np.testing.assert_array_equal(skipping.predict_proba(x), expected)
    listed = tmp_path / "listed.txt"
    listed.write_text(f"{paths[0]}\n")
    skipping.config.data.exclude = str(listed)
    assert not skipping.fit(paths, y).run_.notes  # the recipe asks for it: no warning


GROUPED = config_of({"data.name": "folder", "data.group": r"(patient\d+)"})
PATIENTS = np.array([f"patient{row % 15}" for row in range(120)])


def as_files(folder, x):
    """Paths of images as files, which name no group."""
    paths = [folder / f"{row}.png" for row in range(len(x))]
    for path, pixels in zip(paths, x, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


@pytest.mark.parametrize("are_files", [False, True])
def test_images_of_a_group_stay_in_one_split(are_files, images, tmp_path):
    x, y = images
    given = as_files(tmp_path, x) if are_files else x
    classifier = untrained(validation=0.25).fit(given, y, groups=PATIENTS.tolist())
    splits = classifier.run_.splits
    train, validation = ({*splits[name].groups} for name in ("train", "validation"))
    assert train and validation and not train & validation
    assert train | validation == {*PATIENTS}
    alone = untrained(validation=0.25).fit(x, y).run_.splits
    assert alone.train.groups is None


def test_scikit_learn_hands_groups_on(images, monkeypatch):
    x, y = images
    found = []
    monkeypatch.setattr("hybrid_jax.classifier.fit", lambda *a, **_: found.append(a[1]))
    monkeypatch.setattr(Classifier, "_adopt", lambda *_: None)
    with config_context(enable_metadata_routing=True):
        estimator = untrained().set_fit_request(groups=True)
        cross_validate(
            estimator,
            x,
            y,
            cv=GroupKFold(3),
            params={"groups": PATIENTS},
            scoring=lambda *_: 0.0,
        )
    assert len(found) == 3
    for splits in found:
        part, _, groups = splits["train"]
        assert len(groups) == len(part) == 80
        assert len({*groups}) == 10
    with pytest.raises(TypeError, match="sample_weight"):
        untrained().fit(x, y, sample_weight=np.ones(120))


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (["a", "b", "a"], "^X has 4 images and groups has 3 groups: give one group"),
        (["a", "b", None, "a"], "^1 group of 4 is missing"),
        ([["a"], ["b"], ["a"], ["b"]], r"^groups are \[4, 1\].*groups\.ravel"),
        (["a", "a", "b", "b"], "class '0' lies in 1 group .*, or set validation=0"),
    ],
)
def test_groups_that_do_not_fit_are_one_line(groups, said, tmp_path):
    x, y = np.zeros((4, 16, 16), np.uint8), [0, 0, 1, 1]
    for given in (x, as_files(tmp_path, x)):
        with pytest.raises(ValueError, match=said) as error:
            untrained(validation=0.5).fit(given, y, groups=groups)
        assert "\n" not in str(error.value)


def test_groups_are_given_in_one_way(tmp_path):
    paths = as_files(tmp_path, np.zeros((4, 16, 16), np.uint8))
    classifier = untrained().set_params(config=GROUPED)
    with pytest.raises(ValueError, match="and groups both give groups: leave one"):
        classifier.fit(paths, [0, 1, 0, 1], groups=[0, 1, 2, 3])


def test_warm_up_goes_by_the_images_that_are_trained_on(images):
    """A hundredth of the images takes a hundredth of the steps."""
    y = np.arange(1000) % 2
    part = config_of({"data.per_class": 8, "data.validation": 0.0})
    chosen = Classifier(config=part, epochs=3, batch_size=4)._config(
        partial(count_trained, y, None), lambda _: [(16, 16)]
    )
    assert chosen.optim.warmup_steps <= 3 * 16 / 4 / 3


def test_folders_are_loaded_with_their_labels(fitted, images, tmp_path):
    x = images[0]
    expected = fitted.predict_proba(x)
    loaded = Classifier.load(fitted.workdir)
    np.testing.assert_array_equal(loaded.predict_proba(x), expected)
    np.testing.assert_array_equal(loaded.classes_, fitted.classes_)
    assert loaded.classes_.dtype == object
    assert loaded.history_ == fitted.history_
    loaded.save(tmp_path / "saved")
    loaded.save(tmp_path / "saved")  # again, in its place
    saved = Classifier.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(saved.predict_proba(x), expected)
    assert saved.run_.results["validation"] == fitted.run_.results["validation"]
    with pytest.raises(UserError, match=r"open them with hybrid_jax\.Classifier\.load"):
        hybrid_jax.load_run(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.pkl"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds other files"):
        loaded.save(tmp_path / "other")
    with pytest.raises(ValueError, match="holds no run"):
        Classifier.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("classes", ["a"], "1 different class name given for 4 logits"),
        (
            "classes",
            [*"abcde"],
            "5 different class names given for 4 logits",
        ),
        ("pixels.mean", [0.0, 0.0], "statistics of other than 1 channels"),
        ("pixels.channels", 3, "statistics of other than 1 channels"),
        ("pixels.size", [0, 16], "size is (0, 16)"),
        ("config", None, "holds no readable classifier"),
        ("config", [], "holds no readable classifier"),
        ("results", "x", "holds no readable classifier"),
        ("results", {"test": []}, "holds no readable classifier"),
        ("checkpoint", [], "holds no readable classifier"),
        ("schema", 99, "layout 99"),
        ("config.loss.name", "nope", "config.loss.name=nope"),
        ("config.parallel.devices", "4", "config.parallel.devices='4'"),
    ],
)
def test_a_network_whose_files_disagree_is_refused(path, value, said, fitted, tmp_path):
    fitted.save(tmp_path)
    change_saved(tmp_path, path, value)
    with pytest.raises(ValueError, match=re.escape(said)):
        Classifier.load(tmp_path)


@pytest.mark.parametrize("what", ["classifier", "bias_table"])
def test_saved_weights_that_would_have_to_be_changed_are_refused(
    what, fitted, images, tmp_path
):
    fitted.save(tmp_path)
    with safe_open(tmp_path / WEIGHTS, "np") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for path in [path for path in arrays if what in path]:
        cut = arrays[path][..., :3] if what == "classifier" else arrays[path][:3, :3]
        arrays[path] = np.ascontiguousarray(cut)
    save_file(arrays, tmp_path / WEIGHTS, metadata=metadata)
    said = rf"{WEIGHTS} does not fit the network that it describes: params/\S*{what}"
    with pytest.raises(UserError, match=said) as error:
        Classifier.load(tmp_path).predict(images[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("labels.values", [{"x": 1}, 2, 3, 4], "("),
        ("labels.values", [1, 2, 3], "3 different labels for 4 classes"),
        ("labels.values", [0, 1, 1, 2], "3 different labels for 4 classes"),
        ("labels.values", [0, 1, 2, 9], "1 unknown label"),
        ("labels.values", ["0", "1", "2", "3"], "of another type than it says"),
        ("labels.dtype", "<U21", "of another type than it says"),
        ("labels.dtype", "nope", "("),
        ("labels.dtype", None, "of another type than it says"),
        ("labels", [0, 1, 2, 3], "("),
        ("labels", {}, "values"),
        ("labels", 5, "("),
    ],
    ids=str,
)
def test_labels_that_cannot_be_read_are_refused(path, value, said, numbered, tmp_path):
    numbered.save(tmp_path)
    change_saved(tmp_path, path, value)
    with pytest.raises(ValueError, match="has an unreadable entry 'labels'") as error:
        Classifier.load(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path / ABOUT) in str(error.value)
    assert "\n" not in str(error.value)


def test_class_names_stand_for_labels_that_are_missing(numbered, tmp_path):
    numbered.save(tmp_path)
    assert Classifier.load(tmp_path).classes_.tolist() == [0, 1, 2, 3]
    change_saved(tmp_path, "labels", None)
    assert Classifier.load(tmp_path).classes_.tolist() == ["0", "1", "2", "3"]


def change_saved(folder, path, value):
    """Replace a value in the JSON of a saved classifier, or of its weights."""
    about = json.loads((folder / ABOUT).read_text())
    with safe_open(folder / WEIGHTS, "np") as file:
        metadata, names = file.metadata(), file.keys()
        arrays = {name: file.get_tensor(name) for name in names}
    of_weights = {
        n: json.loads(metadata[f"hybrid_jax.{n}"]) for n in ("classes", "pixels")
    }
    inside = about | of_weights
    *groups, last = path.split(".")
    for group in groups:
        inside = inside[group]
    inside[last] = value
    for whole in (about, of_weights):
        if path in whole:
            whole[path] = value
    (folder / ABOUT).write_text(json.dumps(about))
    metadata |= {f"hybrid_jax.{n}": json.dumps(v) for n, v in of_weights.items()}
    save_file(arrays, folder / WEIGHTS, metadata=metadata)


def test_a_run_without_the_estimator_is_loaded_with_names(images, tmp_path):
    x, y = images
    config = untrained().config.copy_and_resolve_references()
    config.update_from_flattened_dict(
        {"train.steps": 30, "optim.warmup_steps": 3, "optim.warmup_epochs": 0.0}
    )
    run = hybrid_jax.fit(config, {"train": (x, y)}, tmp_path / "run", verbose=False)
    loaded = Classifier.load(tmp_path / "run")
    assert loaded.classes_.tolist() == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(loaded.predict_proba(x), run.predict(x))
    again = clone(loaded).fit(x, y)  # by the same recipe
    np.testing.assert_array_equal(again.predict_proba(x), run.predict(x))


def test_the_same_call_resumes_what_was_interrupted(fitted, images, tmp_path):
    x, y = images
    classifier = untrained(workdir=tmp_path / "run", verbose=True)
    config = classifier.config.copy_and_resolve_references()
    config.debug.inject = "term@4"
    with pytest.raises(KeyboardInterrupt):
        clone(classifier).set_params(config=config).fit(x, NAMES[y])
    partial = Classifier.load(tmp_path / "run")
    assert partial.run_.checkpoint == 4
    assert partial.classes_.dtype == object
    assert classifier.fit(x, NAMES[y]).run_.checkpoint > 4
    np.testing.assert_array_equal(classifier.predict_proba(x), fitted.predict_proba(x))
    with pytest.raises(ValueError, match="holds a run of other data"):
        clone(classifier).fit(x, NAMES[y[::-1]])


def test_labels_are_kept_where_training_diverges(images, tmp_path):
    x, y = images
    classifier = untrained(workdir=tmp_path / "run")
    classifier.config.debug.inject = "nan@20"
    classifier.config.train.eval_every = 1
    with pytest.raises(UserError, match="the loss is nan"):
        classifier.fit(x, y)
    assert Classifier.load(tmp_path / "run").classes_.tolist() == [*range(4)]
    other = untrained(workdir=tmp_path / "run", learning_rate=0.5)
    with pytest.raises(UserError, match="holds a run of another config"):
        other.fit(x, NAMES[y])
    assert Classifier.load(tmp_path / "run").classes_.tolist() == [*range(4)]


@pytest.mark.parametrize(
    ("load", "source", "said"),
    [
        (Classifier.load, None, "workdir=None is no path: give a folder"),
        (Classifier.load, 5, "workdir=5 is no path: give a folder"),
        (Classifier.load, "", "workdir is empty: give a folder"),
        (Classifier.from_pretrained, 5, "source=5 is no path: give a folder, or a rep"),
        (Classifier.from_pretrained, None, "source=None is no path: give a folder, or"),
        (Classifier.from_pretrained, "", "source is empty: give a folder, or a repos"),
    ],
)
def test_what_is_no_path_is_named(load, source, said):
    with pytest.raises(ValueError, match=f"^{said}") as error:
        load(source)
    assert isinstance(error.value, UserError)


def test_histories_are_drawn(fitted):
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    axes = fitted.plot_history()
    assert [line.get_label() for line in axes.lines] == ["train", "validation"]
    rows = [row for row in fitted.history_ if row["split"] == "validation"]
    assert [*axes.lines[1].get_ydata()] == [row["accuracy"] for row in rows]
    assert fitted.plot_history(axes, metric="loss") is axes
    plt.close(axes.figure)
    with pytest.raises(ValueError, match=r"give .*accuracy"):
        fitted.plot_history(metric="acuracy")
    fitted = copy.copy(fitted)
    fitted.history_ = [*fitted.history_, {"split": "test", "step": 9, "f1": 0.5}]
    with pytest.raises(ValueError, match="metric='f1' is not in history_ of train or"):
        fitted.plot_history(metric="f1")  # it would draw nothing


def images_of(dtype):
    return np.zeros((4, 16, 16), dtype)


DAYS = np.array(["2026-01-01", "2026-01-02"] * 2, "datetime64[D]")
TABLE = types.SimpleNamespace(columns=["path"], shape=(2, 1))  # such as of pandas


@pytest.mark.parametrize(
    ("parameters", "x", "y", "message"),
    [
        ({}, images_of("u1"), [0, 0, 0, 0], "two classes"),
        ({}, images_of("u1"), [0, 1, 0], "4 images and y has 3 labels: give one label"),
        ({}, images_of("u1"), [], "empty"),
        ({}, images_of("u1"), None, "y is None"),
        ({}, images_of("u1"), [0, 1, np.nan, 1], "missing"),
        ({}, images_of("u1"), [0, 1, 0.5, 1], "fractions"),
        ({}, images_of("u1"), [1e19, 2e19, 1e19, 2e19], "not exact as float64"),
        ({}, images_of("u1"), [1j, 2j, 1j, 2j], "numbers or as text"),
        ({"workdir": ""}, images_of("u1"), [0, 1, 0, 1], "^workdir is empty"),
        ({"config": GROUPED}, images_of("u1"), [0, 1, 0, 1], "for the paths of files"),
        ({}, images_of("u1"), [0, 1, 0, "a"], "several types"),
        ({}, images_of("u1"), np.eye(4), "one per image"),
        ({}, images_of(float), [0, 1, 0, 1], "uint8"),
        ({}, images_of("u1")[0], [0, 1] * 8, "reshape"),
        ({}, [], [0, 1], "X is empty"),
        ({}, 5, [0, 1], "int"),
        ({}, None, [0, 1], "NoneType"),
        ({}, "cells/", [0, 1], "one path"),
        ({}, ["a.png", 3], [0, 1], "1 path and 1"),
        ({}, ["a.png", "b.png"], [0, 1], "it does not exist"),
        ({"steps": 3, "epochs": 3}, images_of("u1"), [0, 1, 0, 1], "two lengths"),
        ({"batch_size": 0}, images_of("u1"), [0, 1, 0, 1], "^batch_size=0"),
        ({"epochs": 0, "steps": None}, images_of("u1"), [0, 1, 0, 1], "^epochs=0"),
        ({"steps": 0}, images_of("u1"), [0, 1, 0, 1], "^steps=0"),
        ({"steps": "3"}, images_of("u1"), [0, 1, 0, 1], "^steps='3' is not allowed"),
        ({"steps": [3]}, images_of("u1"), [0, 1, 0, 1], "^steps="),
        ({}, images_of("u1"), (label for label in [0, 1, 0]), "y has 3 labels"),
        ({"steps": -1}, images_of("u1"), [0, 1, 0, 1], "^steps=-1: give .* above 0"),
        ({"config": "nope"}, images_of("u1"), [0, 1, 0, 1], "^config=nope does not"),
        ({"config": ""}, images_of("u1"), [0, 1, 0, 1], "^config is empty: give"),
        ({}, TABLE, [0, 1], r"X is a table.*X\['path'\]"),
        ({"workdir": "never"}, images_of("u1"), DAYS, "type date, such as"),
        ({"learning_rate": np.nan}, images_of("u1"), [0, 1, 0, 1], "^learning_rate"),
        ({"image_size": 2}, images_of("u1"), [0, 1, 0, 1], "image_size"),
        ({"model": "astroforme"}, images_of("u1"), [0, 1, 0, 1], "did you mean"),
        ({"config": "few_image"}, images_of("u1"), [0, 1, 0, 1], "few_images"),
        ({"config": 3}, images_of("u1"), [0, 1, 0, 1], "config is int"),
        ({"validation": 0.5}, images_of("u1"), [0, 1, 1, 1], "1 training image"),
    ],
)
def test_mistakes_are_one_line(parameters, x, y, message):
    with pytest.raises(ValueError, match=message) as error:
        untrained().set_params(**parameters).fit(x, y)
    assert isinstance(error.value, UserError)
    assert "\n" not in str(error.value)
