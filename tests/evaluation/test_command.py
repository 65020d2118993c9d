"""`hybrid-jax evaluate` on real scans, as a user types it."""

import csv
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import hybrid_jax
from hybrid_jax.data import Split
from hybrid_jax.evaluation.evaluate import evaluate as evaluate_here
from tests.commands import hybrid_jax as command
from tests.engine.experiments import flags


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
    assert found["at temperature"]["nll"] != measures["nll"]["value"]
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
    assert len(rows) == found["images"] == 50
    right = [row["class"] == row["predicted"] for row in rows]
    assert np.mean(right) == pytest.approx(expected["accuracy"])
    assert rows[0]["image"].endswith(".png")
    probabilities = run.predict(np.asarray(Image.open(rows[0]["image"]))[None])[0]
    written = [float(rows[0][name]) for name in run.classes]
    np.testing.assert_allclose(written, probabilities, atol=2e-6)
    scores = run.scores([Path(row["image"]) for row in rows])
    sets = run.conformal.sets(scores, 0.8)
    labels = np.array([run.classes.index(row["class"]) for row in rows])
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
    assert "is not empty" in again.stderr


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
    labels = np.array([int(row["class"]) for row in rows])
    second = (members[1].predict(images).argmax(1) == labels).mean()
    difference = (mean.argmax(1) == labels).mean() - second
    assert found["comparison"]["difference"] == pytest.approx(difference)
    assert found["comparison"]["low"] <= difference <= found["comparison"]["high"]


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
    evaluate(f"--workdir={runs / '0'}", "--views", f"--output={out}")
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    run = hybrid_jax.load_run(runs / "0")
    image = np.asarray(Image.open(rows[0]["image"]))
    views = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
    logits = np.log(run.predict(np.stack(views))).astype(np.float64)
    # Logits are log probabilities but for a constant, which the softmax takes away.
    mean = np.exp(logits.mean(0)) / np.exp(logits.mean(0)).sum()
    written = [float(rows[0][name]) for name in run.classes]
    np.testing.assert_allclose(written, mean, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ensemble=nowhere"], "nowhere holds no run"),
        (["--versus=,"], "--workdir is empty"),
        (["--output=missing/out"], "lies in a folder that does not exist"),
        (["--output=gs://b/out"], "mount a bucket"),
        (["--split=tset"], "one of train, validation, test"),
        (["--views=maybe"], "true or false"),
        (["--coverage=0.99"], "give 0.9803 at most"),
        (["--coverage=0.9", "--split=validation"], "cannot judge them"),
        (["--coverage=0.9", "--views"], "of a single run"),
    ],
)
def test_what_cannot_be_is_refused(runs, arguments, message):
    ran = command("evaluate", f"--workdir={runs / '0'}", *arguments)
    assert ran.returncode == 2
    assert message in " ".join(ran.stderr.split()), ran.stderr
    assert "Traceback" not in ran.stderr


def test_runs_of_other_images_are_not_compared(runs, monkeypatch):
    # As many images of equal labels, whose files are others in each run.
    names = property(lambda split: [f"{id(split)}-{i}" for i in range(len(split))])
    monkeypatch.setattr(Split, "names", names)
    ran = command("evaluate", f"--workdir={runs / '0'}", f"--versus={runs / '1'}")
    assert ran.returncode == 2
    message = " ".join(ran.stderr.split())
    assert f"{runs / '1'} has other images in its split 'test' than" in message
