"""Finished runs, opened from their folder alone."""

import csv
import gc
import io
import json
import os
import shutil
import warnings
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import hybrid_jax
from hybrid_jax.config.stored import SCHEMA
from hybrid_jax.errors import UserError
from hybrid_jax.main import main
from hybrid_jax.models.registry import MODELS
from hybrid_jax.prediction import predict
from hybrid_jax.programs.inference import check_finite
from hybrid_jax.runs.given_split import given_split
from tests.experiments import STEPS, flags, small

CLASSES = ("no", "yes")


def write_digits(folder, rows, names=CLASSES, size=(16, 16)):
    """Scans of zeros and ones as files, in a folder for each class."""
    images, labels = load_digits(n_class=2, return_X_y=True)
    for row in range(360)[rows]:
        path = folder / names[labels[row]] / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.round(images[row].reshape(8, 8) * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).resize(size).save(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, and images that it has never seen; those that it has seen are gone."""
    folder = tmp_path_factory.mktemp("runs")
    write_digits(folder / "cells" / "train", slice(0, 200))
    write_digits(folder / "cells" / "val", slice(200, 240))
    write_digits(folder / "cells" / "test", slice(240, 300))
    write_digits(folder / "others", slice(300, 360))
    fields = {"data.name": "folder", "data.path": folder / "cells", "data.per_class": 0}
    more = [f"--config.{name}={value}" for name, value in fields.items()]
    workdir = folder / "run"
    command = ["hybrid-jax", *flags(data__dir=folder / "kept"), *more]
    assert main([*command, f"--workdir={workdir}", "--config.train.keep=9"]) == 0
    (folder / "cells").rename(folder / "elsewhere")
    shutil.rmtree(folder / "kept")
    return folder


def test_all_that_a_prediction_needs_lies_in_the_folder(finished):
    run = hybrid_jax.load_run(finished / "run")
    assert run.classes == CLASSES
    assert (run.form.size, run.form.channels, run.form.target) == ((16, 16), 1, None)
    assert run.model.num_classes == 2
    assert run.config.model.name == "small_hybrid"
    assert run.results["checkpoint"] == run.checkpoint
    assert [row["step"] for row in run.history if row["split"] == "validation"]
    with pytest.raises(UserError, match="cells' does not exist"):
        run.evaluate("test")


def test_a_row_that_the_run_was_trained_with_is_missed_by_name(finished, monkeypatch):
    monkeypatch.delitem(MODELS, "small_hybrid")
    with pytest.raises(UserError, match=r"uses config.model.name=small_hybrid, which"):
        hybrid_jax.load_run(finished / "run")


def test_a_run_with_a_field_that_is_refused_today_is_read(finished, tmp_path):
    """Earlier versions trained with it, and it had no effect. It continues, too."""
    other = shutil.copytree(finished / "run", tmp_path / "run")
    config = json.loads((other / "config.json").read_text())
    config["augment"]["magnitude"] = 20
    (other / "config.json").write_text(json.dumps(config))
    images = np.zeros((1, 16, 16), np.uint8)
    expected = hybrid_jax.load_run(finished / "run").predict(images)
    np.testing.assert_array_equal(hybrid_jax.load_run(other).predict(images), expected)
    (other / "results.json").unlink()
    places = {"path": finished / "elsewhere", "dir": tmp_path}
    places = [f"--config.data.{name}={place}" for name, place in places.items()]
    assert main(["hybrid-jax", f"--workdir={other}", *places]) == 0
    assert (other / "results.json").exists()


@pytest.mark.parametrize("name", ["other.png", None])
def test_an_error_of_another_file_is_not_blamed_on_the_output(name, tmp_path):
    expected, words = (OSError, "other.png") if name else (UserError, "--output=")
    opened = predict._open(tmp_path / "a.csv", resume=False)
    with pytest.raises(expected, match=words), opened:
        raise OSError(24, "Too many open files", name)


def test_files_that_would_share_a_name_in_the_table_are_refused(tmp_path):
    names = b"caf\xe9.png", b"caf\\xe9.png", b"other.png"
    paths = [tmp_path / os.fsdecode(name) for name in names]
    for path in paths:
        path.touch()
    assert predict._find_files([paths[0], paths[2]]) == [paths[0], paths[2]]
    with pytest.raises(UserError, match=r"2 files would be .*caf\\xe9.png, since"):
        predict._find_files(paths)


def test_files_and_arrays_are_predicted_alike(finished):
    run = hybrid_jax.load_run(finished / "run")
    paths = sorted((finished / "others").rglob("*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    from_arrays = run.predict(images)
    from_files = [p.probabilities for p in run.predict_files(paths, batch_size=17)]
    np.testing.assert_allclose(from_arrays, from_files, atol=1e-6)
    color = np.repeat(images[..., None], 3, -1)  # is made gray, as the run's were
    np.testing.assert_allclose(run.predict(color), from_arrays, atol=1e-6)
    labels = [path.parent.name for path in paths]
    pictures, of_sizes = [*map(Image.open, paths)], [*images[1:], color[0]]
    for given in (paths, pictures, [*images]):
        np.testing.assert_array_equal(run.predict(given), from_arrays)
        np.testing.assert_array_equal(run.scores(given), run.scores(images))
    turned = np.roll(from_arrays, -1, axis=0)
    np.testing.assert_array_equal(run.predict(of_sizes), turned)
    found = run.evaluate(images, labels)
    for given in (paths, pictures, [*images]):
        assert run.evaluate(given, labels) == found
    right = np.array(run.classes)[from_arrays.argmax(1)] == labels
    assert found["accuracy"] == pytest.approx(right.mean())
    assert found == run.evaluate(run.open_images(finished / "others"))


def test_what_is_no_list_of_images_or_no_temperature_is_refused(finished):
    run = hybrid_jax.load_run(finished / "run")
    paths = [*map(str, sorted((finished / "others").rglob("*.png"))[:2])]
    images = [np.asarray(Image.open(path)) for path in paths]
    for call, said in (
        (lambda: run.scores(paths[0]), "^images is one path"),
        (lambda: [*run.predict_files(paths[0])], "'.*': give a list of paths$"),
        (lambda: [*run.predict_files(["a.png", 3])], "a path is needed, not int"),
        (lambda: run.scores(["a.png", 3]), "images has 1 path and 1 other value:"),
        (lambda: run.scores([]), "images is empty"),
        (lambda: run.predict(["a.png"]), "a.png cannot be read: it does not exist"),
        (
            lambda: run.predict(str(finished / "others")),
            r"find_files\(\[folder\]\) lists",
        ),
        (
            lambda: run.evaluate(finished / "others"),
            r"run\.open_images\(path\) opens a",
        ),
        (lambda: run.evaluate(["a.png"], ["no"]), "a.png .it does not exist.; repair"),
        (lambda: run.predict(Image.fromarray(images[0])), r"one image: give a list"),
        (lambda: run.predict(images[0]), r"^images are \[16, 16\].*: for one image"),
        (
            lambda: run.predict(images[0].reshape(1, -1)),
            "for rows of pixels, .*reshape",
        ),
        (lambda: run.evaluate(images[0], ["no"]), r"^images are .*images\[None\]"),
        (lambda: run.predict(images[0] / 255), "^images are float64"),
        (
            lambda: run.predict([images[0] / 255, images[0][2:]]),
            "^image 0, counted from",
        ),
        (lambda: run.predict([[[1, 2], [3]]]), "^image 0, counted from 0, is no array"),
        (
            lambda: run.predict([Image.new("F", (16, 16))]),
            "^image 0, counted from 0, cannot be read: its pixels are floating-point",
        ),
        (
            lambda: run.predict([Image.new("HSV", (16, 16))]),
            r"^image 0, .* its pixels are HSV: take image\.convert\('RGB'\)",
        ),
        (lambda: [*run.predict_files(paths, temperature=0.0)], "temperature=0.0"),
        (lambda: [*run.predict_files(paths, batch_size=0)], "batch_size=0"),
        (lambda: run.predict(images, batch_size=1.5), "batch_size=1.5 is not a whole"),
        (lambda: run.predict(images, batch_size="8"), "batch_size='8' is not a whole"),
        (lambda: run.predict(images, temperature=1e-300), "1e-300 is too small: give"),
    ):
        with pytest.raises(UserError, match=said):
            call()
    for temperature in (np.finfo(np.float32).tiny, 1e300):
        assert np.isfinite(run.predict(images, np.int64(8), temperature)).all()


def test_predictions_that_are_not_finite_are_refused_by_name(finished):
    run = hybrid_jax.load_run(finished / "run")
    run.variables = jax.tree.map(lambda x: np.full_like(x, np.nan), run.variables)
    others = run.open_images(finished / "others")
    paths = sorted((finished / "others").rglob("*.png"))[:3]
    images = [np.asarray(Image.open(path)) for path in paths]
    for call, said in (
        (lambda: run.predict(images), r"image 0, .* of 3 of the 3 images of its batch"),
        (lambda: [*run.predict_files(paths)], f"{paths[0]} are not finite"),
        (lambda: run.evaluate(others), "image 0, counted from 0, are not finite"),
        (
            lambda: run.log_probabilities(others),
            "image 0, counted from 0, are not finite",
        ),
    ):
        with pytest.raises(UserError, match=said):
            call()


def test_of_several_images_the_one_that_is_not_finite_is_named():
    logits = np.zeros((4, 3), np.float32)
    logits[2, 1] = -np.inf
    with pytest.raises(UserError, match=r"image 1,002, .* of 1 of the 4 images"):
        check_finite(logits, range(1000, 1009))
    check_finite(logits, range(2))  # an image that fills up a batch has no name


def test_a_run_is_evaluated_on_other_images_by_command(finished, capsys):
    run, others = finished / "run", finished / "others"
    expected = hybrid_jax.load_run(run).evaluate(
        hybrid_jax.load_run(run).open_images(others)
    )
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    command = ["hybrid-jax", "evaluate", f"--workdir={run}"]
    assert main([*command, f"--data={others}"]) == 0
    said = capsys.readouterr().out
    assert f"{100 * expected['accuracy']:.2f} %" in said
    assert "60 images" in said
    assert main([*command, f"--data={finished / 'elsewhere'}", "--split=test"]) == 0
    assert f"{finished / 'elsewhere'}, 60 images" in capsys.readouterr().out.replace(
        "\n", ""
    )
    moved = f"--config.data.path={finished / 'elsewhere'}"
    kept = f"--config.data.dir={finished / 'kept-elsewhere'}"
    assert main([*command, moved, kept]) == 0
    shutil.rmtree(finished / "kept-elsewhere")
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_other_images_are_kept_in_memory_or_not_as_the_run_says(finished, loader):
    run = hybrid_jax.load_run(finished / "run", data__loader=loader)
    others = run.open_images(finished / "others")
    assert others.resident == (loader == "resident")
    path = next((finished / "others" / "no").iterdir())
    given = given_split(run, [path], ["no"])
    assert given.resident == (loader == "resident")


def test_evaluated_images_are_not_kept(finished):
    run = hybrid_jax.load_run(finished / "run")
    kept = []
    for _ in range(2):
        split = run.open_images(finished / "others")
        run.evaluate(split)
        kept.append(weakref.ref(split))
    del split
    gc.collect()
    assert [each() for each in kept] == [None, None]


def test_images_that_a_run_has_seen_are_counted(finished, tmp_path, capsys):
    """By their bytes, whatever they are called and wherever they lie."""
    cells, others = tmp_path / "cells", tmp_path / "others"
    shutil.copytree(finished / "elsewhere", cells)
    shutil.copytree(finished / "others", others)
    command = ["hybrid-jax", "evaluate", f"--workdir={finished / 'run'}"]
    command += [f"--config.data.path={cells}", f"--config.data.dir={tmp_path / 'kept'}"]
    assert main([*command, f"--data={others}"]) == 0
    assert "new images would do worse" not in capsys.readouterr().out
    for name, split in (("one", "train"), ("two", "train"), ("three", "val")):
        first, second, *_ = sorted((cells / split / "no").iterdir())
        shutil.copy(second if name == "two" else first, others / "no" / f"{name}.png")
    assert main([*command, f"--data={others}"]) == 0
    said = capsys.readouterr().out
    assert "2 images of 63 were trained on: new images would do worse" in said
    assert "1 image of 63 was used to choose the checkpoint" in said


def test_a_run_predicts_by_command(finished, tmp_path, capsys):
    images = shutil.copytree(finished / "others", tmp_path / "images")
    (images / "no" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    table = tmp_path / "table.csv"
    command = ["hybrid-jax", "predict", f"--workdir={finished / 'run'}", str(images)]
    assert main([*command, f"--output={table}"]) == 1
    assert "1 of 61 images cannot be read" in capsys.readouterr().err
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 61
    damaged = next(row for row in rows if row["path"].endswith("damaged.png"))
    assert damaged["error"]
    assert damaged["predicted"] == damaged["yes"] == ""
    run = hybrid_jax.load_run(finished / "run")
    for row in rows:
        if row["error"]:
            continue
        (probabilities,) = run.predict(np.asarray(Image.open(row["path"]))[None])
        for name, probability in zip(CLASSES, probabilities, strict=True):
            assert float(row[name]) == pytest.approx(probability, abs=2e-6)
        assert row["predicted"] == CLASSES[probabilities.argmax()]
    workdir = f"--workdir={finished / 'run'}"
    assert main(["hybrid-jax", "evaluate", workdir, f"--data={table}"]) == 2
    assert f"{table} holds predictions, not labels" in capsys.readouterr().err

    assert main([*command, f"--output={table}"]) == 2
    assert "exists: add --resume" in capsys.readouterr().err
    with pytest.raises(UserError, match="exists: add --resume"):
        predict._open(table, resume=False).__enter__()  # made since it was looked for
    with predict._open(table, resume=True):
        assert main([*command, f"--output={table}", "--resume"]) == 2
        assert "is being written by another command" in capsys.readouterr().err
    whole = table.read_text()
    lines = whole.splitlines(keepends=True)
    table.write_text("".join(lines[:20]) + lines[20][:9])  # killed while it wrote
    assert main([*command, f"--output={table}", "--resume"]) == 1
    said = capsys.readouterr().err
    assert "Resuming after 19 images" in said
    assert "1 of 61 images cannot be read" in said
    resumed = list(csv.DictReader(table.open()))
    assert [row["path"] for row in resumed] == [row["path"] for row in rows]
    for row, again in zip(rows, resumed, strict=True):
        assert again == row
    for start in (lines[0], lines[0][:7], ""):  # killed before its first row
        table.write_text(start)
        assert main([*command, f"--output={table}", "--resume"]) == 1
        assert capsys.readouterr().err.count("Resuming") == 0
        assert table.read_text() == whole
    for kind, more in (("csv", []), ("jsonl", []), ("csv", ["--top=1"])):
        file = table.with_name(f"{len(more)}.{kind}")
        assert main([*command, *more, f"--output={file}"]) == 1
        again = [*command, *more, f"--output={file}", "--resume"]
        kept = file.read_text()
        assert main(again) == 1
        said = capsys.readouterr().err
        assert "1 of them could not be read, and are not tried again" in said
        for otherwise in ("--calibrated", "--checkpoint=7"):
            assert main([*again, otherwise]) == 2
            assert "another run or checkpoint wrote it" in capsys.readouterr().err
        assert file.read_text() == kept
    assert (
        main([*again[:-2], f"--output={table.with_name('0.jsonl')}", "--resume"]) == 2
    )
    assert "other probabilities" in capsys.readouterr().err  # one of two classes
    other = "holds something other than predictions"
    row = '{"path": "a", "predicted": "b", "probability": 1, "probabilities": {"b": 1}'
    for kind, text, said in (
        ("csv", "a,b\n1,2", "has other columns"),  # its last line may have no end
        ("csv", "notes", other),
        ("csv", f"a,{200_000 * 'b'}\n", "has other columns"),
        ("csv", "a\rb,c\n", "has other columns"),
        ("jsonl", f"{100_000 * '['}\n", other),
        ("jsonl", row + ', "coverage": [1]}\n', other),
    ):
        file = table.with_name(f"others.{kind}")
        file.write_bytes(text.encode())
        assert main([*command, f"--output={file}", "--resume"]) == 2
        assert said in capsys.readouterr().err
        assert file.read_bytes() == text.encode()

    evaluate = ["hybrid-jax", "evaluate", f"--workdir={finished / 'run'}"]
    evaluate.append(f"--data={images}")
    assert main(evaluate) == 2
    assert "or skip them (--on-error=skip)" in capsys.readouterr().err
    assert main([*evaluate, "--on-error=skip"]) == 0
    said = capsys.readouterr().out
    assert "60 images" in said
    assert "1 image skipped, which cannot be read" in said

    (images / "no" / "damaged.png").unlink()
    assert main(command) == 0  # to the standard output
    assert capsys.readouterr().out.count("\n") == 61


def test_predictions_are_continued_by_the_network_that_began_them(
    finished, tmp_path, capsys
):
    """The others may agree with it on the first image, and on most."""
    paths = sorted((finished / "others").rglob("*.png"))[:20]
    for path in paths:
        shutil.copy(path, tmp_path)
    names = [str(tmp_path / path.name) for path in paths]
    command = ["hybrid-jax", "predict", f"--workdir={finished / 'run'}"]
    tables = [tmp_path / "own.csv", tmp_path / "other.csv"]
    for table, more in zip(tables, ([], ["--checkpoint=7"]), strict=True):
        assert main([*command, *names, f"--output={table}", *more]) == 0
    own, other = (table.read_text().splitlines(keepends=True) for table in tables)
    table = tables[1]
    resume = [f"--output={table}", "--resume"]

    def refused(given):
        before = table.read_text()
        capsys.readouterr()
        assert main([*command, *given, *resume]) == 2
        assert table.read_text() == before
        return capsys.readouterr().err

    table.write_text("".join([*own[:2], *other[2:15]]))
    assert "other probabilities for the 8 images" in refused(names)
    table.write_text("".join(own[:15]))
    assert (
        "has 14 predictions, and the images of 7 are among these images: to check that "
        "the same network wrote it, give at least 8 of its images"
    ) in refused(names[7:])
    assert main([*command, *names[6:], *resume]) == 0
    assert sorted(table.read_text().splitlines()) == sorted("".join(own).splitlines())
    for name in names:
        Path(name).write_bytes(b"")
    assert "the images of 0 can still be read" in refused(names)


def test_predictions_are_calibrated_ranked_and_lines_of_json(
    finished, tmp_path, capsys, monkeypatch
):
    run = hybrid_jax.load_run(finished / "run")
    chosen = run.evaluate(run.open_images(finished / "elsewhere", "validation"))
    # Both are minima of a flat loss, that of a network which hardly learned.
    assert run.temperature == pytest.approx(chosen["temperature"], rel=1e-4)
    paths = [str(p) for p in sorted((finished / "others").rglob("*.png"))[:3]]
    given = io.BytesIO("\n".join(paths).encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given, "ascii"))
    table = tmp_path / "rows.jsonl"
    command = ["hybrid-jax", "predict", f"--workdir={finished / 'run'}"]
    more = ["-", f"--output={table}", "--calibrated", "--top=1"]
    assert main([*command, *more]) == 0
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [row["path"] for row in rows] == paths
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    logits = np.log(run.predict(images).astype(np.float64)) / run.temperature
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for row, probabilities in zip(rows, expected, strict=True):
        best = CLASSES[probabilities.argmax()]
        assert row["predicted"] == best
        assert row["probabilities"] == {best: row["probability"]}
        assert row["probability"] == pytest.approx(probabilities.max(), abs=1e-5)
    np.testing.assert_allclose(
        run.predict(images, temperature=run.temperature), expected, atol=1e-6
    )
    assert capsys.readouterr().out == f"Written: {table}, 3 rows\n"
    assert main([*command, *paths, "--top=5"]) == 0
    header = capsys.readouterr().out.splitlines()[0]
    assert header == "path,predicted,probability,error,predicted 2,probability 2"
    assert main([*command, paths[0], ""]) == 2
    assert "the path of an image is empty" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert main([*command, "-"]) == 2
    assert "names no image" in capsys.readouterr().err
    assert main([*command, *paths, f"--output={tmp_path / 'rows.txt'}"]) == 2
    assert "must end with .csv or .jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("accuracy", "code", "said"),
    [
        (1.0, 2, "no validation image is misclassified"),
        (0.9, 0, "rests on 40 validation images with 4 mistakes"),
        (0.5, 0, ""),
    ],
)
def test_a_temperature_needs_mistakes_to_rest_on(
    finished, tmp_path, capsys, accuracy, code, said
):
    workdir = shutil.copytree(finished / "run", tmp_path / "run")
    log = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    changed = [row | {"accuracy": accuracy} for row in rows]
    log.write_text("".join(json.dumps(row) + "\n" for row in changed))
    image = str(next((finished / "others").rglob("*.png")))
    command = ["hybrid-jax", "predict", f"--workdir={workdir}", "--calibrated", image]
    assert main([*command, f"--output={tmp_path / 'rows.csv'}"]) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert bool(said) == bool(printed.err)
    assert ("Written: " in printed.out) == (code == 0)


def test_checkpoints_are_chosen_by_name(finished):
    workdir = finished / "run"
    results = json.loads((workdir / "results.json").read_text())
    rows = [r for r in hybrid_jax.load_run(workdir).history if "top5" in r]
    validation = [row for row in rows if row["split"] == "validation"]
    best = max(validation, key=lambda row: (row["accuracy"], -row["loss"]))
    assert hybrid_jax.load_run(workdir).checkpoint == results["checkpoint"]
    assert hybrid_jax.load_run(workdir, "best").checkpoint == best["step"]
    last = validation[-1]["step"]
    assert hybrid_jax.load_run(workdir, "last").checkpoint == last
    first = hybrid_jax.load_run(workdir, validation[0]["step"])
    assert first.checkpoint == validation[0]["step"]
    both = hybrid_jax.load_run(workdir, [first.checkpoint, "last"])
    assert both.checkpoint == (first.checkpoint, last)
    images = np.zeros((1, 16, 16), np.uint8)
    ends = hybrid_jax.load_run(workdir, "last").predict(images)
    assert not np.array_equal(first.predict(images), ends)
    for wrong in (3, "newest"):
        with pytest.raises(UserError, match=f"checkpoint {wrong} is not in .* {last}"):
            hybrid_jax.load_run(workdir, wrong)


def test_evaluate_convert_and_init_from_take_a_checkpoint(finished, tmp_path, capsys):
    workdir = finished / "run"
    first = min(int(path.name) for path in (workdir / "checkpoints").iterdir())
    others = f"--data={finished / 'others'}"
    evaluate = ["hybrid-jax", "evaluate", f"--workdir={workdir}", others]
    assert main([*evaluate, f"--checkpoint={first}"]) == 0
    assert f"step {first}" in capsys.readouterr().out
    assert main([*evaluate, "--checkpoint=7777"]) == 2
    assert "saved: " in capsys.readouterr().err
    target = tmp_path / "first.safetensors"
    convert = ["hybrid-jax", "convert", str(workdir), str(target), "--to=hybrid_jax"]
    assert main([*convert, f"--checkpoint={first}"]) == 0
    from hybrid_jax.runs.weights import read_weights

    theirs, ours = read_weights(target), read_weights(workdir, str(first))
    for name, array in ours.arrays.items():
        np.testing.assert_array_equal(theirs.arrays[name], array)
    assert theirs.pixels == ours.pixels
    assert theirs.pixels["size"] == [16, 16]
    assert len(theirs.pixels["mean"]) == len(theirs.pixels["deviation"]) == 1
    assert theirs.classes == CLASSES
    with pytest.raises(UserError, match="a file of weights, which has no checkpoint"):
        read_weights(target, "best")


def test_a_checkpoint_that_is_skipped_is_named_once_in_python_and_by_command(
    finished, tmp_path, capsys
):
    other = shutil.copytree(finished / "run", tmp_path / "run")
    (other / "checkpoints" / "9999").mkdir()
    note = f"skipping checkpoint {other / 'checkpoints' / '9999'}: it is incomplete"
    for open_it in (
        lambda: hybrid_jax.load_run(other, "last"),
        lambda: hybrid_jax.load_run(other, "all", views=False),
        lambda: hybrid_jax.Classifier.load(other, "best"),
        lambda: hybrid_jax.Classifier.from_pretrained(other),
    ):
        with pytest.warns(UserWarning) as warned:
            open_it()
        assert [str(w.message) for w in warned] == [note]
        assert warned[0].filename == __file__  # so that a user finds the line
    command = ["hybrid-jax", "predict", f"--workdir={other}", str(finished / "others")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(command) == 0
    assert capsys.readouterr().err.count(note) == 1


def test_no_optimizer_moments_are_read(finished, monkeypatch):
    """They are two thirds of a checkpoint."""
    from hybrid_jax.checkpoints import arrays

    monkeypatch.setattr(arrays, "read", None)
    run = hybrid_jax.load_run(finished / "run")
    assert set(run.variables) == {"params", "batch_stats"}


def test_a_run_of_a_newer_version_is_refused(finished, tmp_path):
    workdir = shutil.copytree(finished / "run", tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    assert config["schema"] == SCHEMA
    newer = config | {"schema": SCHEMA + 1}
    (workdir / "config.json").write_text(json.dumps(newer))
    with pytest.raises(UserError, match="update hybrid_jax"):
        hybrid_jax.load_run(workdir)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (lambda x: ("tests",), "no split 'tests', did you mean 'test'"),
        (lambda x: (x,), "labels are missing"),
        (lambda x: (x, ["no"]), "1 labels for 2 images"),
        (lambda x: (x, ["no", "maybe"]), "maybe"),
        (lambda x: (x.astype(float), ["no", "yes"]), "np.uint8"),
    ],
)
def test_images_that_do_not_fit_are_refused(finished, arguments, said):
    run = hybrid_jax.load_run(finished / "run", data__path=str(finished / "elsewhere"))
    with pytest.raises(UserError, match=said):
        run.evaluate(*arguments(np.zeros((2, 16, 16), np.uint8)))


def test_a_run_on_arrays_says_that_its_images_are_gone(tmp_path):
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.uint8) * 15
    splits = {"train": (images, labels)}
    config = small(data__name="folder", data__path="gone", data__test_fraction=0.5)
    run = hybrid_jax.fit(config, splits, tmp_path / "run", verbose=False)
    assert run.results["step"] == STEPS[-1]
    loaded = hybrid_jax.load_run(tmp_path / "run")
    with pytest.raises(UserError, match="were handed over in memory"):
        loaded.evaluate("validation")
    np.testing.assert_array_equal(loaded.predict(images[:9]), run.predict(images[:9]))
    again = hybrid_jax.fit(loaded.config, splits, tmp_path / "run", verbose=False)
    assert again.results == run.results
    other = {"train": (images[:, ::-1], labels)}
    with pytest.raises(UserError, match="holds a run of other data"):
        hybrid_jax.fit(small(), other, tmp_path / "run", verbose=False)


def test_other_weights_never_take_the_place_of_the_tested_ones(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished / "run", copy)
    tested = hybrid_jax.load_run(copy).checkpoint
    shutil.rmtree(copy / "checkpoints" / str(tested))
    with pytest.raises(UserError, match=f"{tested}"):
        hybrid_jax.load_run(copy)
    assert hybrid_jax.load_run(copy, "last").checkpoint != tested
