"""What a run leaves: its folder, metrics and pictures."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hybrid_jax import data
from hybrid_jax.checkpoints import manifest
from hybrid_jax.cli.outputs import check_output
from hybrid_jax.config.schema import Config, DataConfig
from hybrid_jax.console import Reporter
from hybrid_jax.engine.metric_writers import Writers, drop_later, image_grid
from hybrid_jax.errors import UserError
from hybrid_jax.json_files import read_json, write_whole
from hybrid_jax.paths import library_path
from hybrid_jax.runs.folder import RunFolder


def save_nothing(step):
    """Write a checkpoint without arrays, which counts as one."""
    step.mkdir(parents=True)
    (step / manifest.NAME).touch()


def test_workdir_tells_its_config_from_another(tmp_path):
    folder = RunFolder(tmp_path / "run")
    config = Config()
    folder.resume(config)
    assert not folder.path.exists()
    folder.create(config, {"name": "astroformer_pico"})
    folder.resume(config.replace({"seed": 5}))  # nothing saved yet, nothing to lose
    save_nothing(folder.checkpoints / "100")
    folder.resume(config)
    assert json.loads(folder.model.read_text()) == {"name": "astroformer_pico"}
    folder.resume(config.replace({"train.log_every": 7, "data.dir": "/elsewhere"}))
    other = config.replace({"optim.weight_decay": 0.5, "model.stack": "CCTT"})
    with pytest.raises(UserError) as error:
        folder.resume(other)
    assert "config.optim.weight_decay is 0.05 there and 0.5 here" in str(error.value)
    assert "config.model.stack is '' there and 'CCTT' here" in str(error.value)
    assert "log_every" not in str(error.value)


def test_a_new_run_keeps_no_results_of_an_earlier_one(tmp_path):
    folder = RunFolder(tmp_path)
    folder.create(Config(), {})
    left = ["results.json", "report.html", "validation.npz", "classifier.json"]
    for name in left:
        (tmp_path / name).write_text("{}")
    save_nothing(folder.checkpoints / "100")
    folder.create(Config(), {})
    assert all((tmp_path / name).exists() for name in left)
    shutil.rmtree(folder.checkpoints)
    folder.create(Config(), {})
    assert not any((tmp_path / name).exists() for name in left)


def test_damaged_results_can_be_written_again(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_results() is None
    folder.results.write_text('{"step": 5')
    said = rf"results\.json cannot be read .*: delete it: .*--workdir={tmp_path}` w"
    with pytest.raises(UserError, match=said):
        folder.read_results()


def test_workdir_tells_its_data_from_others(tmp_path, digits):
    folder = RunFolder(tmp_path / "run")
    folder.check_data(digits)
    folder.create(Config(), {})
    folder.write_data(digits)
    tenth = data.load(DataConfig("digits", fraction=0.1, validation=0))
    folder.check_data(tenth)  # nothing saved yet, nothing to lose
    save_nothing(folder.checkpoints / "100")
    folder.check_data(digits)
    with pytest.raises(UserError) as error:
        folder.check_data(tenth)
    assert "training images were 1437 and are 149 now" in str(error.value)
    assert "test images" not in str(error.value)
    labels = np.flip(digits.train.labels)
    flipped = {"train": data.Split(digits.train.images, labels)}
    other = dataclasses.replace(digits, parts={**digits.parts, **flipped})
    with pytest.raises(UserError, match="holds a run of other data: labels were"):
        folder.check_data(other)
    color = np.repeat(digits.train.images, 3, axis=3)
    colored = {"train": data.Split(color, digits.train.labels)}
    other = dataclasses.replace(digits, parts={**digits.parts, **colored})
    with pytest.raises(UserError, match=r"channels were \[8, 8, 1\] and are \[8, 8, 3"):
        folder.check_data(other)


def test_a_file_is_replaced_where_a_link_leads_and_a_pipe_stays_one(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as threads:
        read = threads.submit((tmp_path / "pipe").read_bytes)
        write_whole(tmp_path / "pipe", b"all")
        assert read.result() == b"all"
    assert (tmp_path / "pipe").is_fifo()
    check_output("--json", str(tmp_path / "pipe"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "pipe"]


def test_what_older_runs_tested_on_for_lack_of_a_test_split_is_validation(tmp_path):
    place = tmp_path / "cells"
    for split, count in (("train", 5), ("val", 3)):
        for name in ("a", "b"):
            (place / split / name).mkdir(parents=True)
            for row in range(count):
                pixels = np.full((16, 16), row, np.uint8)
                Image.fromarray(pixels).save(place / split / name / f"{row}.png")
    config = Config(data=DataConfig("folder", str(tmp_path / "kept"), path=str(place)))
    folder = RunFolder(tmp_path / "run")
    folder.create(config, {})
    folder.write_data(data.load(config.data))
    save_nothing(folder.checkpoints / "100")

    stored = json.loads(folder.config.read_text())
    del stored["schema"], stored["data"]["validation"]
    stored["data"]["fold"] = ""
    folder.config.write_text(json.dumps(stored))
    described = json.loads(folder.data.read_text())
    described["test images"] = described.pop("validation images")
    del described["pixels"]
    folder.data.write_text(json.dumps(described | {"files": "of two splits"}))

    for validation in (0, 0.1):  # before and after it goes on
        found, notes = folder.resume(config)
        assert notes == [
            "this run is of an older version: it continues with "
            f"config.data.validation={validation}"
        ]
        found, splits = folder.load_splits(found)
        assert found.data.validation == 0.1
        assert {name: len(split) for name, split in splits.items()} == {
            "train": 10,
            "validation": 6,
        }
        folder.check_data(splits)
        folder.create(found, {})
        folder.write_data(splits)
    assert json.loads(folder.data.read_text())["validation images"] == 6


def test_rounding_is_no_other_data_and_a_run_keeps_its_own_statistics(tmp_path, digits):
    folder = RunFolder(tmp_path / "run")
    folder.create(Config(), {})
    mean, std = digits.statistics

    def decoded_otherwise(levels):
        other = dataclasses.replace(digits)
        vars(other)["statistics"] = (mean + np.float32(levels), std)
        return other

    folder.write_data(digits)
    close = decoded_otherwise(0.3)
    assert folder.statistics(close)[0] == close.statistics[0]  # nothing is trained yet
    save_nothing(folder.checkpoints / "100")
    folder.check_data(close)
    folder.write_data(close)
    for ours, theirs in zip(folder.statistics(close), (mean, std), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match=r"of other data: mean and deviation were \["):
        folder.check_data(decoded_otherwise(1.5))


def test_paths_are_kept_absolute_and_more_epochs_have_a_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"caf\xe9 \xc3\xa9")
    paths = {
        "data.path": odd,
        "data.dir": "~/d",
        "init_from": "x",
        "data.manual_dir": "",
    }
    config = Config.from_flat(paths)
    folder = RunFolder(odd)
    folder.create(config, {})
    save_nothing(folder.checkpoints / "100")
    stored = folder.read_config()
    assert folder.config.read_text(encoding="utf-8").count("é") == 1
    assert stored.data.path == str(tmp_path / odd)
    assert stored.data.dir == str(Path.home() / "d")
    assert (stored.init_from, stored.data.manual_dir) == (str(tmp_path / "x"), "")
    folder.resume(config)
    folder.resume(stored)
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir("/")
        RunFolder(folder.path.absolute()).resume(config)
    longer = config.replace({"train.epochs": 200})
    with pytest.raises(UserError) as error:
        folder.resume(longer)
    assert f"another workdir and --config.init_from={folder.path}" in str(error.value)
    other = config.replace({"init_from": "y", "seed": 1})
    with pytest.raises(UserError, match="init_from") as error:
        folder.resume(other)
    assert "more epochs" not in str(error.value)


def test_a_workdir_has_one_run_at_a_time_even_after_a_kill(tmp_path):
    path = tmp_path / "run"
    with RunFolder(path) as first, RunFolder(path) as second:
        assert not path.exists()
        first.create(Config(), {})
        with pytest.raises(UserError, match="run is in use by another run"):
            second.create(Config(), {})
    command = (
        "import sys; from hybrid_jax.runs.folder import RunFolder\n"
        "with RunFolder(sys.argv[1]): print('mine', flush=True); sys.stdin.read()"
    )
    start = [sys.executable, "-c", command, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(start, **pipes) as other:
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(UserError, match="run is in use by another run"):
            RunFolder(path).__enter__()
        other.kill()
    with RunFolder(path):
        pass


def test_a_run_that_found_no_folder_does_not_continue_anothers(tmp_path):
    ours, theirs = Config(), Config().replace({"seed": 5})
    with RunFolder(tmp_path / "run") as late:
        late.resume(ours)
        with RunFolder(late.path) as early:
            early.create(theirs, {})
            early.create(theirs, {})  # again, with smaller micro-batches
            save_nothing(early.checkpoints / "100")
        with pytest.raises(UserError, match="another run began there at the same time"):
            late.create(ours, {})
    with RunFolder(late.path) as again:
        again.resume(theirs)
        again.create(theirs, {})


def test_workdir_that_is_a_file_or_damaged(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        RunFolder(tmp_path / "file").resume(Config())
    (tmp_path / "config.json").write_text("{")
    save_nothing(tmp_path / "checkpoints" / "1")
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        RunFolder(tmp_path).resume(Config())


def read_scalars(folder, tag):
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)], events


def row(step, epoch, loss, split="train"):
    return {"split": split, "step": step, "epoch": epoch, "loss": loss}


def test_a_file_that_lacks_an_entry_is_named(tmp_path):
    file = tmp_path / "results.json"
    file.write_text('{"weights": {}, "list": [{"known": 1}]}')
    content = read_json(file)
    assert content == {"weights": {}, "list": [{"known": 1}]}
    assert content.get("metrics") is None
    assert content["list"][0]["known"] == 1
    for lacking in (content, content["weights"], content["list"][0]):
        with pytest.raises(UserError, match=r"results\.json has no entry 'metrics'"):
            lacking["metrics"]
        with pytest.raises(KeyError):
            lacking["metrics"]


def test_metrics_are_the_same_in_json_and_tensorboard_and_rewound(tmp_path):
    folder = RunFolder(tmp_path)
    with Writers(folder, 0) as writers:
        for step in (10, 20, 30):
            writers.write(row(step, step / 10, 1 / step))
        writers.images("train/augmented", np.zeros((6, 4, 3), np.uint8), 0)
        writers.hyperparameters({"model.name": "x", "seed": 1}, {"accuracy": 0.5})
    with folder.metrics.open("ab") as file:  # torn by a crash
        file.write(b'\xff\xfe\n{"split": "train", "st')
    assert [kept["step"] for kept in folder.read_history()] == [10, 20, 30]
    with Writers(folder, 20) as writers:
        writers.write(row(30, 3.0, 0.25))
    whole = folder.metrics.read_text()
    folder.metrics.write_text(whole.removesuffix("\n"))  # the last row is whole, too
    drop_later(folder.metrics, 30)
    assert folder.metrics.read_text() == whole
    rows = [json.loads(line) for line in whole.splitlines()]
    expected = [(10, 0.1), (20, 0.05), (30, 0.25)]
    assert [(line["step"], line["loss"]) for line in rows] == expected
    assert rows[0] == {"split": "train", "step": 10, "epoch": 1.0, "loss": 0.1}
    scalars, events = read_scalars(folder.tensorboard, "train/loss")
    assert scalars == [(step, pytest.approx(loss)) for step, loss in expected]
    assert events.Images("train/augmented")[0].width == 4
    assert list((folder.tensorboard / "hparams").glob("events*"))
    writers.images("late", np.zeros((4, 4, 3), np.uint8), 0)  # after an interrupt
    assert read_scalars(folder.tensorboard, "train/loss")[0] == scalars


@pytest.mark.parametrize(
    ("first", "order"), [("", "begun wrote slow"), ("import torch", "slow begun wrote")]
)
def test_event_files_are_written_with_and_without_pytorch(first, order, tmp_path):
    (tmp_path / "torch.py").write_text("print('slow')\nclass Tensor: pass\n")
    code = (
        f"{first}\n"
        "from hybrid_jax.engine.metric_writers import Writers\n"
        "from hybrid_jax.runs.folder import RunFolder\n"
        "print('begun')\n"
        "with Writers(RunFolder('run'), 0) as writers:\n"
        "    writers.write({'split': 'train', 'step': 1, 'epoch': 1, 'loss': 0.5})\n"
        "print('wrote')\n"
        "import torch\n"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == order.split(), done.stderr
    assert read_scalars(tmp_path / "run" / "tensorboard", "train/loss")[0] == [(1, 0.5)]


def test_names_that_are_not_utf8_are_written_escaped(tmp_path, capsys):
    odd = os.fsdecode(b"caf\xe9")
    folder = RunFolder(tmp_path / odd)
    folder.create(Config(), {})
    with Reporter(folder.log) as reporter, Writers(folder, 0) as writers:
        reporter.say(f"training on {odd}")
        reporter.start(0, 10)
        reporter.metrics(5, "1.0/2", odd, evaluated=True)
        reporter.table(odd, {"workdir": str(folder.path)})
        writers.write(row(10, 1.0, 0.5, "test"))
        writers.hyperparameters({"data.path": str(folder.path)}, {"accuracy": 0.5})
    out = capsys.readouterr().out
    assert "training on caf\\xe9\n" in out
    assert out.count("caf\\xe9") >= 3  # the table may cut what is long
    assert folder.log.read_text(encoding="utf-8").count("caf\\xe9") == 3
    events = library_path(folder.tensorboard)  # since TensorBoard reads UTF-8 alone
    assert read_scalars(events, "test/loss")[0] == [(10, 0.5)]


def test_image_grid_shows_images_in_rows():
    images = np.arange(5)[:, None, None, None] * np.full((5, 2, 3, 1), 50.0)
    grid = image_grid(images)
    assert grid.shape == (2 * 4, 3 * 5, 1)
    assert grid.dtype == np.uint8
    for i in range(5):
        y, x = 4 * (i // 3) + 1, 5 * (i % 3) + 1
        assert (grid[y : y + 2, x : x + 3] == 50 * i).all()
    assert (grid[::4] == 128).all()
    assert image_grid(np.full((1, 2, 2, 3), 300.0)).max() == 255
