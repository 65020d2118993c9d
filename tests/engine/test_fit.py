"""Training on arrays and on named data, with and without a folder."""

import copy
import errno
import json
import os
import pickle
import shutil
import time

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hybrid_jax
from hybrid_jax import data
from hybrid_jax.config.files import load_config
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.engine import startup_report
from hybrid_jax.errors import UserError
from hybrid_jax.main import main
from hybrid_jax.parallel.signals import Interrupted
from tests.experiments import SMALL, STEPS, flags, small

TIMES = {"seconds", "images_per_second"}


def without_times(rows):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def leaves(run):
    return [np.asarray(x) for x in jax.tree.leaves(run.variables)]


@pytest.fixture(scope="module")
def arrays():
    """The digits as a user has them: images and labels, in two splits."""
    splits = data.load(DataConfig("digits", validation=0, image_size=(16, 16)))
    return {name: (split.images, split.labels) for name, split in splits.items()}


@pytest.fixture(scope="module")
def fitted(arrays):
    return hybrid_jax.fit(small(), arrays, verbose=False)


def test_scikit_learns_digits_in_a_few_lines():
    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    named = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    train, test = slice(0, 1000), slice(1000, None)
    run = hybrid_jax.fit(
        small(train__epochs=24, optim__learning_rate=1e-2),
        {"train": (images[train], named[labels[train]])},
        verbose=False,
    )
    found = run.evaluate(images[test], named[labels[test]])
    probabilities = run.predict(images[test])
    assert run.classes == tuple(sorted(named))
    assert probabilities.shape == (797, 10)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    predicted = np.array(run.classes)[probabilities.argmax(1)]
    right = (predicted == named[labels[test]]).mean()
    assert right == pytest.approx(found["accuracy"], abs=1e-6)
    assert right > 0.5  # of ten classes, from 18 images of each
    assert run.workdir is None
    assert repr(run).startswith(
        "<Run: small_hybrid on arrays in memory, 10 classes, step "
    )


def test_arrays_give_the_numbers_of_the_command(arrays, fitted, tmp_path, capsys):
    workdir = tmp_path / "run"
    words = [*flags(), "--config.data.workers=2", f"--workdir={workdir}"]
    assert main(["hybrid-jax", *words]) == 0
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert without_times(map(json.loads, lines)) == without_times(fitted.history)
    loaded = hybrid_jax.load_run(workdir)
    for ours, theirs in zip(leaves(fitted), leaves(loaded), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    test = arrays["test"][0]
    np.testing.assert_array_equal(fitted.predict(test), loaded.predict(test))
    assert fitted.evaluate("test") == loaded.evaluate("test")
    again, tested = fitted.evaluate("test"), fitted.results["test"]
    assert again.pop("class_accuracy") == tested["class_accuracy"]
    assert "temperature" in fitted.results["validation"]
    assert "temperature" not in tested  # validation alone chooses it
    del again["temperature"]
    assert again == pytest.approx({name: tested[name] for name in again})
    said = capsys.readouterr().out
    assert "20 validation images" in said
    assert "config.data.workers=2 has no effect: these images are in memory" in said


def test_one_run_leaves_the_next_alone(arrays, fitted):
    other = hybrid_jax.fit(small(seed=1), arrays, verbose=False)
    again = hybrid_jax.fit(small(), arrays, verbose=False)
    assert without_times(other.history) != without_times(fitted.history)
    assert without_times(again.history) == without_times(fitted.history)
    for ours, theirs in zip(leaves(fitted), leaves(again), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_runs_share_programs_that_are_the_same_and_no_others(arrays, fitted, capsys):
    said = "reused compiled programs"
    assert without_times(hybrid_jax.fit(small(), arrays).history) == without_times(
        fitted.history
    )
    assert said in capsys.readouterr().out
    other = hybrid_jax.fit(small(loss__label_smoothing=0.3), arrays)
    assert said not in capsys.readouterr().out
    assert without_times(other.history) != without_times(fitted.history)


@pytest.mark.parametrize(
    "changed",
    [
        {"optim__learning_rate": 3e-4, "optim__weight_decay": 0.5},
        {"train__epochs": 4, "optim__warmup_epochs": 0.5},
        {"optim__schedule": "step", "optim__decay_epochs": (2,)},
        {"data__per_class": 7},
    ],
    ids=["rates", "length", "schedule", "images"],
)
def test_runs_that_differ_in_rates_or_in_a_few_images_share_a_program(
    arrays, fitted, capsys, changed
):
    other = hybrid_jax.fit(small(**changed), arrays)
    assert "reused compiled programs" in capsys.readouterr().out
    assert without_times(other.history) != without_times(fitted.history)


def test_validation_alone_chooses(arrays, tmp_path):
    """On a test split whose labels are wrong, the worst weights do best."""
    images, labels = arrays["test"]
    splits = arrays | {"test": (images, (labels + 1) % 10)}
    config = small(train__epochs=8, train__keep=20)
    run = hybrid_jax.fit(config, splits, tmp_path / "run", verbose=False)
    chosen = run.results["checkpoint"]
    rows = [row for row in run.history if row["split"] == "validation"]
    best = max(rows, key=lambda row: (row["accuracy"], -row["loss"]))
    assert chosen == best["step"] == run.checkpoint
    tested = [row for row in run.history if row["split"] == "test"]
    assert [(row["step"], row["weights"]) for row in tested] == [(chosen, "best")]
    accuracies = {
        row["step"]: hybrid_jax.load_run(tmp_path / "run", row["step"]).evaluate(
            *splits["test"]
        )["accuracy"]
        for row in rows[::3]
    }
    assert max(accuracies.values()) > tested[0]["accuracy"]


def test_without_validation_all_images_are_trained_on_and_the_last_weights_count(
    arrays, capsys
):
    run = hybrid_jax.fit(small(data__validation=0), arrays)
    said = capsys.readouterr().out
    assert "no validation split (config.data.validation=0)" in said
    assert "the last, without a validation split" in said
    assert "200 training images, 360 test images" in said
    assert run.results["weights"] == "last"
    assert run.results["checkpoint"] == run.results["step"]
    assert {row["split"] for row in run.history} == {"train", "test"}
    with pytest.raises(UserError, match="no validation split, which prediction sets"):
        _ = run.conformal


def test_what_judges_predictions_needs_no_folder_and_is_pickled(fitted):
    conformal, split = fitted.conformal, fitted.get_split("validation")
    np.testing.assert_array_equal(conformal.labels, split.labels)
    np.testing.assert_array_equal(conformal.scores, fitted.scores(split))
    copied = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    np.testing.assert_array_equal(copied.conformal.scores, conformal.scores)


def test_the_last_weights_are_tested_where_the_config_says_so(arrays, capsys):
    run = hybrid_jax.fit(small(train__checkpoint="last"), arrays)
    assert run.results["weights"] == "last"
    assert run.results["checkpoint"] == STEPS[-1]
    assert "the last (train.checkpoint=last)" in capsys.readouterr().out


def test_without_a_test_split_nothing_is_tested(arrays, capsys):
    run = hybrid_jax.fit(small(), {"train": arrays["train"]})
    assert "test" not in run.results
    assert "no test split" in capsys.readouterr().out
    with pytest.raises(UserError, match="no split 'test': there are train, validation"):
        run.evaluate("test")


def test_a_callback_is_told_every_row_and_ends_the_run(arrays, fitted):
    rows = []

    def callback(row):
        rows.append(row)
        return row["split"] == "validation" and row["step"] == STEPS[1]

    run = hybrid_jax.fit(small(), arrays, callbacks=[callback], verbose=False)
    assert rows == run.history
    ended = [row for row in fitted.history if row["step"] <= STEPS[1]]
    trained = [row for row in rows if row["split"] != "test"]
    assert without_times(trained) == without_times(
        row for row in ended if row["split"] != "test"
    )
    assert run.results["step"] == STEPS[1]


def test_a_run_that_begins_anew_has_no_results_of_the_one_before(arrays, tmp_path):
    hybrid_jax.fit(small(train__epochs=2), arrays, tmp_path)
    assert (tmp_path / "results.json").exists()
    shutil.rmtree(tmp_path / "checkpoints")
    other = small(train__epochs=2, seed=1, debug__inject="nan@2")
    with pytest.raises(UserError, match="the loss is nan"):
        hybrid_jax.fit(other, arrays, tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_a_run_without_evaluations_waits_for_its_pictures(tmp_path, monkeypatch):
    """Or TensorBoard drops its curves, and nobody hears of errors."""

    def late(experiment):
        time.sleep(1.0)
        return np.zeros((4, 4, 3), np.uint8)

    def full(experiment):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lone = {"data__validation": 0, "data__test": False}
    one_epoch = small(train__epochs=1, optim__warmup_epochs=0.0, **lone)
    monkeypatch.setattr(startup_report, "augmented_images", late)
    run = hybrid_jax.fit(one_epoch, workdir=tmp_path / "late", verbose=False)
    events = EventAccumulator(str(tmp_path / "late" / "tensorboard"))
    events.Reload()
    shown = [event.step for event in events.Scalars("train/loss")]
    assert shown == [row["step"] for row in run.history] != []
    assert events.Tags()["images"] == ["train/augmented"]
    monkeypatch.setattr(startup_report, "augmented_images", full)
    with pytest.raises(OSError, match="No space left"):
        hybrid_jax.fit(one_epoch, workdir=tmp_path / "full", verbose=False)


def test_a_loss_of_the_test_images_that_is_not_finite_is_no_result(arrays, tmp_path):
    """Without validation images, finite weights are not tried before."""
    one_step = {"train__epochs": 1, "train__batch_size": 200}
    one_step |= {"optim__learning_rate": 1e25, "optim__warmup_epochs": 0.0}
    config = small(data__validation=0, **one_step)
    with pytest.raises(UserError, match="the loss is nan at step 1"):
        hybrid_jax.fit(config, arrays, tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_a_run_keeps_its_precision_on_another_machine(arrays, tmp_path):
    """Where `auto` would mean another one."""
    config = small(dtype="bfloat16", train__epochs=2, optim__ema_decay=0.0)
    first = hybrid_jax.fit(config, arrays, tmp_path)
    config.dtype = "auto"  # float32 on this CPU
    again = hybrid_jax.fit(config, arrays, tmp_path)
    assert again.config.dtype == "bfloat16"
    assert again.results == first.results


def test_patience_ends_a_run_and_it_stays_ended(arrays, tmp_path, capsys):
    config = small(train__patience=1, train__epochs=8)
    run = hybrid_jax.fit(config, arrays, tmp_path / "run")
    rows = [row for row in run.history if row["split"] == "validation"]
    ranks = [(row["accuracy"], -row["loss"]) for row in rows]
    better = [b > max(ranks[:i]) for i, b in enumerate(ranks) if i]
    assert better == [True] * (len(better) - 1) + [False]
    assert run.results["step"] == rows[-1]["step"] < 45
    assert run.results["checkpoint"] == rows[-2]["step"]
    again = hybrid_jax.fit(config, arrays, tmp_path / "run")
    assert again.results == run.results
    assert "nothing left to train" in capsys.readouterr().out


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_patience_counts_the_evaluations_that_were_made(
    before, after, arrays, tmp_path
):
    """Also where a resumed run is evaluated more or less often than before."""
    still = {"optim.learning_rate": 1e-12, "train.patience": 3, "train.epochs": 12}
    config = load_config("digits:vit_femto", SMALL | still)
    workdir = tmp_path / "run"
    with pytest.raises(Interrupted):
        config.train.eval_every, config.debug.inject = before, "term@20"
        hybrid_jax.fit(config, arrays, workdir)
    config.train.eval_every, config.debug.inject = after, ""
    run = hybrid_jax.fit(config, arrays, workdir)
    rows = [row["step"] for row in run.history if row["split"] == "validation"]
    best = run.results["checkpoint"]
    assert sum(step > best for step in rows) == 3
    assert run.results["step"] == rows[-1]


def test_a_batch_is_left_out_without_a_folder_too(arrays, capsys):
    run = hybrid_jax.fit(
        small(train__non_finite="skip", debug__inject="nan@9", train__log_every=3),
        arrays,
    )
    assert "going back to step 6, and leaving out batch 8 and 9" in (
        capsys.readouterr().out
    )
    assert run.results["step"] == STEPS[-1]
    steps = [row["step"] for row in run.history if row["split"] == "validation"]
    assert steps == [*STEPS]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: (x / 255, y), r"train: .*0.* to 1.*astype\(np.uint8\)"),
        (lambda x, y: (x[:-1], y), "train: 1,436 images and 1,437 labels"),
        (lambda x, y: (np.where(x > 9, np.nan, 1.0), y), "train: .*NaN"),
    ],
)
def test_arrays_that_are_no_images_are_refused_in_one_line(arrays, change, said):
    with pytest.raises(UserError, match=said) as error:
        hybrid_jax.fit(small(), arrays | {"train": change(*arrays["train"])})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "workdir", "said"),
    [
        (
            {"train__patience": 3, "data__validation": 0},
            None,
            "patience=3 needs a vali",
        ),
        ({}, "gs://bucket/run", "--workdir=gs://bucket/run is not allowed: .*mount"),
        ({}, "", "--workdir is empty"),
        ({"augment__hue_jitter": 0.5}, None, "hue_jitter=0.5 changes no gray image"),
        (
            {
                "augment__crop_padding": 100,
                "augment__crop_scale": 0.0,
                "augment__fill": "edge",
            },
            None,
            "crop_padding=100 moves images of 8x8 px out of sight: give less than 8",
        ),
        (
            {"augment__mixup": 0.2, "train__batch_size": 1},
            None,
            "mixup=0.2 mixes the images of a batch",
        ),
        (
            {"data__name": "folder", "data__group": r"p\d"},
            None,
            r"give arrays as \(images, labels, groups\)",
        ),
    ],
)
def test_what_would_be_passed_over_is_refused(arrays, fields, workdir, said):
    with pytest.raises(UserError, match=said):
        hybrid_jax.fit(small(**fields), arrays, workdir)


@pytest.mark.parametrize(
    ("classes", "label", "shape", "said"),
    [
        (("a", "b"), 1, (2, 16, 16, 1), r"classes \('a', 'b'\) are not the run's"),
        ((), 10, (2, 16, 16, 1), "labels from 10 to 10, but the run has 10 classes"),
        ((), 1, (2, 16, 16, 3), "images of 3 channels, and the run's have 1"),
    ],
    ids=["classes", "labels", "channels"],
)
def test_a_split_of_another_run_is_refused(fitted, classes, label, shape, said):
    labels = np.full(2, label, np.int32)
    split = data.Split(np.zeros(shape, np.uint8), labels, classes=classes)
    for use in (fitted.evaluate, fitted.scores, fitted.log_probabilities):
        with pytest.raises(UserError, match=said):
            use(split)
    with pytest.raises(UserError, match="has its own labels: leave labels out"):
        fitted.evaluate(split, labels)


@pytest.mark.parametrize("temperature", [None, 0, -1.0, float("nan"), "2"])
def test_what_is_no_temperature_divides_no_scores(arrays, fitted, temperature):
    images = arrays["test"][0][:2]
    said = "have no temperature" if temperature is None else "is not a number above 0"
    with pytest.raises(UserError, match=said):
        fitted.predict(images, temperature=temperature)
    with pytest.raises(UserError, match=said):
        fitted.conformal.sets(fitted.scores(images), 0.9, temperature=temperature)


def test_accuracy_is_shown_of_the_weights_that_were_tested_alone(fitted):
    assert "test accuracy" in repr(fitted)
    other = copy.copy(fitted)
    other.checkpoint += 1
    assert "accuracy" not in repr(other)
    assert other.results and not other.own_results


def test_one_image_is_predicted_as_among_others(arrays, fitted):
    images = arrays["test"][0][:9]
    for count in (1, 2, 3):
        alone = fitted.predict(images[:count])
        np.testing.assert_allclose(alone, fitted.predict(images)[:count], atol=1e-5)
