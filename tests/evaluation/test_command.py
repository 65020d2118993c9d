"""`hybrid-jax evaluate` on real scans, as a user types it."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import warnings
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from sklearn.datasets import load_digits

import hybrid_jax
from hybrid_jax import plots
from hybrid_jax.data import Split
from hybrid_jax.errors import UserError
from hybrid_jax.evaluation import report
from hybrid_jax.evaluation.calibration import fit_temperature
from hybrid_jax.evaluation.evaluate import Images, default_split
from hybrid_jax.evaluation.evaluate import evaluate as evaluate_here
from hybrid_jax.evaluation.predictions import Predictions
from hybrid_jax.parallel.signals import Interrupted
from hybrid_jax.plots import saved_axes
from hybrid_jax.reports import write
from hybrid_jax.runs import temperature
from tests.commands import hybrid_jax as command
from tests.experiments import flags


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on one table of scans, whose groups are pairs of neighbors."""
    folder = tmp_path_factory.mktemp("evaluation")
    images, labels = load_digits(n_class=3, return_X_y=True)
    lines = ["path,label,split,group"]
    for row in range(300):
        pixels = np.round(images[row].reshape(8, 8) * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(folder / f"{row:03}.png")
        split = "train" if row < 200 else "val" if row < 250 else "test"
        lines.append(f"{row:03}.png,{labels[row]},{split},scan {row // 2}")
    (folder / "scans.csv").write_text("\n".join(lines))
    for seed in (0, 1):
        fields = {"data.name": "folder", "data.path": folder / "scans.csv"}
        fields |= {"data.per_class": 0, "seed": seed}
        fields |= {"augment.symmetry": "flips", "data.dir": folder / "kept"}
        changed = [f"--config.{name}={value}" for name, value in fields.items()]
        ran = command(*flags(), *changed, f"--workdir={folder / str(seed)}")
        assert ran.returncode == 0, ran.stderr
    return folder


def evaluate(*arguments):
    ran = command("evaluate", *arguments)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_all_that_is_printed_is_written(runs, tmp_path):
    out = tmp_path / "out"
    said = evaluate(f"--workdir={runs / '0'}", "--coverage=0.8", f"--output={out}")
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    run = hybrid_jax.load_run(runs / "0")
    expected = run.evaluate("test")
    measures = found["measures"]
    assert measures["accuracy"]["value"] == pytest.approx(expected["accuracy"])
    assert measures["nll"]["value"] == pytest.approx(expected["loss"], abs=1e-5)
    assert f"{100 * expected['accuracy']:.2f} %" in said
    assert "those of 25 groups of images" in said
    assert found["groups"] == 25
    assert "top5" not in measures  # three classes
    assert 0.05 < found["temperature"] < 20
    assert found["temperature"] == run.temperature  # that `predict` applies
    assert found["at temperature"]["nll"] != measures["nll"]["value"]
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(rows) == found["images"] == 50
    right = [row["label"] == row["predicted"] for row in rows]
    assert np.mean(right) == pytest.approx(expected["accuracy"])
    assert rows[0]["path"].endswith(".png")
    probabilities = run.predict(np.asarray(Image.open(rows[0]["path"]))[None])[0]
    written = [float(rows[0][name]) for name in run.classes]
    np.testing.assert_allclose(written, probabilities, atol=2e-6)
    scores = run.scores([Path(row["path"]) for row in rows])
    sets = run.conformal.sets(scores, 0.8)
    labels = np.array([run.classes.index(row["label"]) for row in rows])
    held = sets[np.arange(50), labels].mean()
    assert found["sets"]["coverage"]["value"] == pytest.approx(held)
    assert found["sets"]["size"]["value"] == pytest.approx(sets.sum(1).mean())
    assert f"Sets at coverage 0.8: {100 * held:.2f} % hold the true class" in said
    confusion = list(csv.reader((tmp_path / "out" / "confusion.csv").open()))
    assert sum(int(n) for row in confusion[1:] for n in row[1:]) == 50
    pictures = sorted(p.name for p in (tmp_path / "out").glob("*.*g"))
    assert len(pictures) == 6
    again = command(
        "evaluate", f"--workdir={runs / '0'}", f"--output={tmp_path / 'out'}"
    )
    assert again.returncode == 2
    assert "is not empty (it holds " in again.stderr


def test_what_others_wrote_meanwhile_is_kept(runs, tmp_path, monkeypatch):
    """Where a disk is full, or a figure cannot be drawn."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    found = evaluate_here(runs / "0")
    for error in (OSError(28, "No space left on device"), RuntimeError("broken")):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(report.figures, "draw", fail)
        with pytest.raises((UserError, RuntimeError), match=r"No space left|broken"):
            report.write(found, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "sub"]


def test_a_signal_while_tables_are_written_leaves_nothing(runs, tmp_path, monkeypatch):
    """So the same command can be given again."""
    found = evaluate_here(runs / "0")
    monkeypatch.setattr(
        report.figures, "draw", lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )
    with pytest.raises(Interrupted, match="SIGTERM"):
        report.write(found, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_paths_are_taken_like_text(runs, tmp_path):
    out = tmp_path / "out"
    found = evaluate_here(runs / "0", versus=[runs / "1"], output=out)
    assert found.comparison[0] == str(runs / "1") and (out / "classes.csv").exists()
    for name in ("versus", "ensemble"):
        with pytest.raises(UserError, match=f"{name}='.*' is one path: give a list"):
            evaluate_here(runs / "0", **{name: str(runs / "1")})
    page = tmp_path / "page.html"
    hybrid_jax.write_report([runs / "0", runs / "1"], page)
    assert str(runs / "1") in page.read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"workdirs='.*' is one path: give a list"):
        hybrid_jax.write_report(str(runs / "0"), tmp_path / "other.html")


def test_a_page_replaces_nothing_unasked(runs, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    for output, said in [
        (page, "exists: give another name, or overwrite=True"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "x.html", "make it"),
    ]:
        with pytest.raises(UserError, match=said):
            hybrid_jax.write_report([runs / "0"], output)
    assert page.read_text() == "mine"
    with pytest.raises(UserError, match="workdirs is empty"):
        hybrid_jax.write_report([], tmp_path / "other.html")
    hybrid_jax.write_report([runs / "0"], page, overwrite=True)
    assert "<svg" in page.read_text(encoding="utf-8")


def test_runs_together_and_against_each_other(runs, tmp_path):
    out = tmp_path / "out"
    evaluate(
        f"--workdir={runs / '0'}",
        f"--ensemble={runs / '1'}",
        f"--versus={runs / '1'}",
        f"--output={out}",
    )
    found = json.loads((out / "evaluation.json").read_text())
    members = [hybrid_jax.load_run(runs / name) for name in "01"]
    images = np.stack(
        [np.asarray(Image.open(runs / f"{row:03}.png")) for row in range(250, 300)]
    )
    mean = sum(run.predict(images) for run in members) / 2
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    written = [[float(row[name]) for name in "012"] for row in rows]
    np.testing.assert_allclose(written, mean, atol=2e-6)
    labels = np.array([int(row["label"]) for row in rows])
    second = (members[1].predict(images).argmax(1) == labels).mean()
    difference = (mean.argmax(1) == labels).mean() - second
    assert found["comparison"]["difference"] == pytest.approx(difference)
    assert found["comparison"]["low"] <= difference <= found["comparison"]["high"]
    assert found["comparison"]["test"] == "sign-flip test over groups"


def test_weights_of_several_checkpoints_are_averaged(runs, capsys):
    workdir = runs / "0"
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    found = evaluate_here(str(workdir), checkpoint="all")
    title = f"the mean of steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"
    assert found.title.endswith(title) and title in capsys.readouterr().out
    each = [hybrid_jax.load_run(workdir, step).variables for step in steps]
    mean = jax.tree.map(lambda *arrays: np.mean(arrays, axis=0), *each)
    run = hybrid_jax.load_run(workdir, "all")
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), run.variables, mean)
    assert run.temperature is None  # none was fitted to this mean


def test_views_are_averaged(runs, tmp_path):
    out = tmp_path / "out"
    workdir = f"--workdir={runs / '0'}"
    said = evaluate(workdir, "--views", "--coverage=0.8", f"--output={out}")
    assert "averaged over views" in said
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    run = hybrid_jax.load_run(runs / "0")
    image = np.asarray(Image.open(rows[0]["path"]))
    views = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    logits = np.log(run.predict(np.stack(views))).astype(np.float64)
    # Logits are log probabilities but for a constant, which the softmax takes away.
    mean = np.exp(logits.mean(0)) / np.exp(logits.mean(0)).sum()
    written = [float(rows[0][name]) for name in run.classes]
    np.testing.assert_allclose(written, mean, atol=1e-5)
    ran = command("predict", workdir, rows[0]["path"], "--views")
    (predicted,) = csv.DictReader(ran.stdout.splitlines())
    found = [float(predicted[name]) for name in run.classes]
    np.testing.assert_allclose(found, mean, atol=1e-4)
    evaluated = json.loads((out / "evaluation.json").read_text())["temperature"]
    of_views = hybrid_jax.load_run(runs / "0", views=True)
    assert evaluated == pytest.approx(temperature.require(of_views), rel=1e-6)


@pytest.mark.parametrize("views", [[], ["--views"]])
def test_predictions_of_several_runs_are_averaged(runs, tmp_path, views):
    (tmp_path / "gone.png").write_text("no image")
    paths = [str(runs / "000.png"), str(tmp_path / "gone.png"), str(runs / "280.png")]
    both = [f"--workdir={runs / '0'}", f"--ensemble={runs / '1'}", *views]
    ran = command("predict", *both, *paths)
    assert ran.returncode == 1
    first, gone, last = csv.DictReader(ran.stdout.splitlines())
    assert gone["error"]
    loaded = [hybrid_jax.load_run(runs / name, views=bool(views)) for name in "01"]
    each = [[p.probabilities for p in r.predict_files(paths[::2])] for r in loaded]
    assert np.abs(np.subtract(*each)).max() > 0.01
    for row, expected in zip((first, last), np.mean(each, axis=0), strict=True):
        found = [float(row[name]) for name in loaded[0].classes]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("flag", ["--calibrated", "--coverage=0.8", "--typicality"])
def test_what_judges_a_single_run_is_refused_for_several(runs, flag):
    both = [f"--workdir={runs / '0'}", f"--ensemble={runs / '1'}"]
    ran = command("predict", *both, str(runs / "000.png"), flag)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "are of a single run: leave them or --ensemble out" in ran.stderr


def test_with_views_everything_is_of_views(runs):
    plain, run = (
        hybrid_jax.load_run(runs / "0"),
        hybrid_jax.load_run(runs / "0", views=True),
    )
    split = run.splits["validation"]
    logs = run.log_probabilities(split)
    assert np.abs(logs - plain.log_probabilities(split)).max() > 0.01
    np.testing.assert_allclose(
        softmax(run.conformal.scores, 1), np.exp(logs), atol=1e-5
    )
    assert run.validation_metrics["accuracy"] == (logs.argmax(1) == split.labels).mean()
    found = fit_temperature(Predictions(logs.astype(np.float64), split.labels))
    assert temperature.require(run) == pytest.approx(found, rel=0.02)
    assert temperature.require(run) != plain.temperature
    assert "accuracy" in repr(plain)
    assert "accuracy" not in repr(run)


def test_a_temperature_of_views_needs_the_validation_images(runs, tmp_path):
    moved = runs.rename(tmp_path / "moved")
    try:
        words = [f"--workdir={moved / '0'}", str(moved / "000.png"), "--views"]
        ran = command("predict", *words, "--calibrated")
        assert command("predict", *words).returncode == 0
    finally:
        moved.rename(runs)
    assert ran.returncode == 2
    assert "averaged over views, which its validation images determine (" in ran.stderr
    assert "scans.csv" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ensemble=nowhere"], "nowhere holds no run"),
        (["--versus=,"], "--versus=, has an empty name"),
        (["--output=/proc/out"], "/proc/out cannot be written"),
        (["--on-error=skip"], "give --data, or leave this out"),
        (["--output=missing/out"], "lies in a folder that does not exist"),
        (["--output=gs://b/out"], "mount a bucket"),
        (["--split=tset"], "one of train, validation, test"),
        (["--views=maybe"], "true or false"),
        (["--coverage=0.99"], "give 0.9803 at most"),
        (["--coverage=0.9", "--split=validation"], "cannot judge them"),
        (["--coverage=0.9", "--ensemble=other"], "of a single run"),
        (["--versus=RUNS/../RUNS/0"], "--versus names the same runs again"),
    ],
)
def test_what_cannot_be_is_refused(runs, arguments, message):
    arguments = [each.replace("RUNS/..", f"{runs}/..") for each in arguments]
    arguments = [each.replace("RUNS", runs.name) for each in arguments]
    ran = command("evaluate", f"--workdir={runs / '0'}", *arguments)
    assert ran.returncode == 2
    assert message in " ".join(ran.stderr.split()), ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_run_is_averaged_once(runs):
    again = (runs / "0", runs / "1" / ".." / "0")
    for more in ([], [f"--data={runs / 'scans.csv'}", "--split=test"]):
        ran = command(
            "evaluate", f"--workdir={again[0]}", f"--ensemble={again[1]}", *more
        )
        assert ran.returncode == 2
        assert f"{again[1]} is given twice" in " ".join(ran.stderr.split())


def test_a_run_without_symmetry_has_no_views(runs, tmp_path, capsys):
    plain = shutil.copytree(runs / "1", tmp_path / "plain")
    config = json.loads((plain / "config.json").read_text())
    config["augment"]["symmetry"] = "none"
    (plain / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="this run has none"):
        evaluate_here(str(plain), views=True)
    evaluate_here(str(runs / "0"), views=True, ensemble=[str(plain)])
    assert "plain has no views" in "".join(capsys.readouterr().out.split("\n"))


def test_images_of_a_run_that_are_damaged_later_can_be_left_out(runs):
    damaged = runs / "299.png"
    kept = damaged.read_bytes()
    damaged.write_bytes(b"")
    try:
        ran = command("evaluate", f"--workdir={runs / '0'}")
        way_out = [f"--data={runs / 'scans.csv'}", "--split=test", "--on-error=skip"]
        said = evaluate(f"--workdir={runs / '0'}", *way_out)
        resumed = command("train", f"--workdir={runs / '0'}")
        with pytest.raises(UserError, match="restore them, or list them in a file for"):
            hybrid_jax.load_run(runs / "0").evaluate()
    finally:
        damaged.write_bytes(kept)
    assert resumed.returncode == 2
    assert "299.png" in resumed.stderr
    assert "restore them, or list them in a file for" in resumed.stderr
    assert ran.returncode == 2
    assert "restore them, or judge the readable test images" in ran.stderr
    assert " ".join(way_out) in ran.stderr
    assert "1 image skipped" in said


def test_training_images_are_judged_only_if_they_are_named(runs, tmp_path):
    run = hybrid_jax.load_run(runs / "0")
    run.splits = dataclasses.replace(run.splits, parts={"train": run.splits.train})
    with pytest.raises(UserError, match="--split=train"):
        Images().of(run)
    name, split = Images("train").of(run)
    assert (name, len(split)) == ("train", 200)
    assert default_split(run) == "train"
    _, notes = write._write({str(runs / "0"): run}, tmp_path / "page.html")
    (note,) = notes
    assert "only training images, which say nothing about new ones" in note
    assert "Worst mistakes" not in (tmp_path / "page.html").read_text()


def test_letters_that_a_font_lacks_are_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with saved_axes(tmp_path / "figure") as (axes,):
            axes.set_title("\N{CJK UNIFIED IDEOGRAPH-6F22}")
    assert (tmp_path / "figure.png").exists()


def test_letters_are_drawn_in_the_fonts_of_the_system(tmp_path, monkeypatch):
    drawn = []  # with matplotlib's usual font, which lacks the letter, and with another
    for files in ((), ("STIXGeneral.ttf",)):
        monkeypatch.setattr(plots, "SYSTEM_FONTS", files)
        with saved_axes(tmp_path / "figure", formats=("png",)) as (axes,):
            axes.set_title("\N{LATIN SMALL LETTER K WITH PALATAL HOOK}")
        drawn.append(np.asarray(Image.open(tmp_path / "figure.png")))
    assert (drawn[0] != drawn[1]).any()


def test_runs_of_other_images_are_not_compared(runs, monkeypatch):
    # As many images of equal labels, whose files are others in each run.
    names = property(lambda split: [f"{id(split)}-{i}" for i in range(len(split))])
    monkeypatch.setattr(Split, "names", names)
    ran = command("evaluate", f"--workdir={runs / '0'}", f"--versus={runs / '1'}")
    assert ran.returncode == 2
    message = " ".join(ran.stderr.split())
    assert f"{runs / '1'} has other images in its split 'test' than" in message
