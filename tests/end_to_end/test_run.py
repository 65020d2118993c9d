"""The command itself, on the real digits, from start to resumption to evaluation."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hybrid_jax.checkpoints.reader import CheckpointReader
from hybrid_jax.runs.folder import RunFolder
from tests.commands import hybrid_jax

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "validation", "test")
SMALL = (
    "--config.train.epochs=3",
    "--config.train.eval_every=1",
    "--config.train.log_every=10",
)


def train(workdir, *args):
    return hybrid_jax("--config=tests/small_hybrid.py", f"--workdir={workdir}", *args)


def rows(workdir, split):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    return [row for row in parsed if row["split"] == split]


def steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def without_times(rows):
    timed = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    done = train(workdir, *SMALL)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_it_learns_and_prints_a_table(finished):
    workdir, done = finished
    accuracy = rows(workdir, "test")[-1]["accuracy"]
    assert accuracy > 0.5  # of ten classes, after three epochs
    assert re.search(rf"test accuracy\s+│ {100 * accuracy:.2f} %", done.stdout)
    assert "1,293 training images, 144 validation images, 360 test images" in (
        done.stdout.replace("\n", " ")
    )
    assert "epoch 3.0/3" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_workdir_holds_what_it_should(finished):
    workdir, _ = finished
    config = json.loads((workdir / "config.json").read_text())
    assert config["data"]["name"] == "digits"
    assert config["train"]["epochs"] == 3
    assert config["dtype"] == "float32"  # what auto was on this CPU
    stored = json.loads((workdir / "data.json").read_text())
    assert stored["classes"] == list("0123456789")
    assert stored["training images"] == 1293
    assert stored["validation images"] == 144
    assert stored["pixels"]["size"] == [8, 8]
    assert [row["step"] for row in rows(workdir, "validation")] == [21, 41, 61]
    logged = [row["step"] for row in rows(workdir, "train")]
    assert logged == [10, 20, 21, 30, 40, 41, 50, 60, 61]
    assert steps(workdir)[-2:] == [41, 61]
    results = json.loads((workdir / "results.json").read_text())
    assert [row["step"] for row in rows(workdir, "test")] == [results["checkpoint"]]
    assert "stage2_block1/attention/bias_table" in (workdir / "log.txt").read_text()
    picture = np.asarray(Image.open(workdir / "augmented.png"))
    assert picture.shape == (3 * 8 * 18, 3 * 8 * 18)  # 64 images, enlarged
    assert picture.std() > 30


def test_it_says_what_its_start_took(finished):
    workdir, done = finished
    said = re.compile(
        r"ready in ([\d.]+) s: traced in ([\d.]+) s, "
        r"(?:compiled|read from the cache) in ([\d.]+) s, first step ([\d.]+) s\n"
    )
    total, *parts = map(float, said.search(done.stdout).groups())
    assert total > sum(parts) - 0.2  # of rounding
    assert said.search((workdir / "log.txt").read_text())


def test_tensorboard_reads_the_same_numbers(finished):
    workdir, _ = finished
    events = EventAccumulator(str(workdir / "tensorboard"))
    events.Reload()
    for split in ("validation", "test"):
        for name in ("loss", "accuracy", "top5"):
            scalars = events.Scalars(f"{split}/{name}")
            expected = [(row["step"], row[name]) for row in rows(workdir, split)]
            assert [(s.step, pytest.approx(s.value)) for s in scalars] == expected
    assert len(events.Images("train/augmented")) == 1
    assert list((workdir / "tensorboard" / "hparams").glob("events*"))


def test_again_finishes_at_once_and_changes_nothing(finished):
    workdir, done = finished
    before = {p: p.read_bytes() for p in workdir.glob("*.json*")}
    again = train(workdir, *SMALL)
    assert again.returncode == 0, again.stderr
    assert "nothing left to train" in again.stdout
    assert "ready in" not in again.stdout
    assert again.stdout.split("│ val", 1)[1] == done.stdout.split("│ val", 1)[1]
    assert before == {p: p.read_bytes() for p in workdir.glob("*.json*")}


def test_a_second_run_of_a_workdir_is_refused(finished):
    workdir, _ = finished
    with RunFolder(workdir):
        second = train(workdir, *SMALL)
    assert second.returncode == 2
    assert f"--workdir={workdir} is in use by another run" in second.stderr
    assert "Traceback" not in second.stderr


def test_resumed_runs_equal_uninterrupted_ones(finished, tmp_path):
    workdir, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    arrays = (copy / "checkpoints" / "61" / "state").rglob("d/*")
    largest = max(arrays, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    resumed = train(copy, *SMALL)
    assert resumed.returncode == 0, resumed.stderr
    assert "checkpoints/61: state/" in resumed.stdout.replace("\n", "")
    assert "Resuming after step 41 of 61" in resumed.stdout
    for split in SPLITS:
        ours, theirs = rows(copy, split), rows(workdir, split)
        assert without_times(ours) == without_times(theirs)
    events = EventAccumulator(str(copy / "tensorboard"))
    events.Reload()
    assert [s.step for s in events.Scalars("validation/loss")] == [21, 41, 61]


def test_a_streamed_run_gives_the_same_numbers(finished, tmp_path):
    workdir, _ = finished
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints" / "61")
    streamed = train(copy, *SMALL, "--config.data.loader=stream")
    assert streamed.returncode == 0, streamed.stderr
    assert "10 classes, streamed to the device" in streamed.stdout
    for split in SPLITS:
        ours, theirs = rows(copy, split), rows(workdir, split)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        for name in ("loss", "accuracy"):
            np.testing.assert_allclose(
                [row[name] for row in ours], [row[name] for row in theirs], rtol=1e-3
            )


def test_evaluation_gives_the_accuracy_of_training(finished):
    workdir, _ = finished
    before = sorted(p for p in workdir.rglob("*"))
    done = hybrid_jax("--mode=eval", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    named = train(workdir, *SMALL, "--mode=eval")
    assert named.stdout == done.stdout
    shown = float(re.search(r"│ accuracy\s+│\s+([\d.]+) %", done.stdout).group(1))
    assert shown == round(100 * rows(workdir, "test")[-1]["accuracy"], 2)
    assert sorted(p for p in workdir.rglob("*")) == before


def test_another_config_is_refused_by_field_and_leaves_the_run_alone(finished):
    workdir, _ = finished
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    refused = train(workdir, *SMALL, "--config.optim.weight_decay=0.3")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "config.optim.weight_decay is 0.05 there and 0.3 here" in refused.stderr
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


def test_a_loss_that_is_not_finite_stops_the_run_unsaved(finished, tmp_path):
    workdir = tmp_path / "run"
    stopped = train(workdir, *SMALL, "--config.debug.inject=nan@30")
    assert stopped.returncode == 3
    assert "hybrid-jax: the loss is nan at step 30: lower" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert steps(workdir) == [21]
    goes_on = train(workdir, *SMALL)  # without the fault
    assert goes_on.returncode == 0, goes_on.stderr
    assert without_times(rows(workdir, "test")) == without_times(
        rows(finished[0], "test")
    )


def test_the_batches_of_a_loss_that_is_not_finite_are_left_out(finished, tmp_path):
    workdir = tmp_path / "run"
    skipping = (
        *SMALL,
        "--config.debug.inject=nan@30",
        "--config.train.non_finite=skip",
    )
    done = train(workdir, *skipping)
    assert done.returncode == 0, done.stderr
    said = "at step 30: going back to step 21, and leaving out batch 29 and 30"
    assert said in done.stdout.replace("\n", "")
    for split in ("train", "validation"):
        ours, theirs = rows(workdir, split), rows(finished[0], split)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        assert all(np.isfinite(row["loss"]) for row in ours)
    assert CheckpointReader(workdir / "checkpoints").metrics(61)["skipped"] == [28, 29]
    # It is known to a run that goes on: there is no batch 30 to fail at.
    shutil.rmtree(workdir / "checkpoints" / "61")
    again = train(workdir, *skipping)
    assert again.returncode == 0, again.stderr
    assert "going back" not in again.stdout


def test_a_run_that_diverges_again_and_again_ends(tmp_path):
    workdir = tmp_path / "diverging"
    ended = train(
        workdir,
        *SMALL,
        "--config.optim.learning_rate=1e30",
        "--config.train.non_finite=skip",
        "--config.train.max_skips=2",
    )
    assert ended.returncode == 3
    assert ended.stdout.count("going back to step 0") == 2
    assert re.search(r"the loss is (nan|inf) at step", ended.stderr)
    assert steps(workdir) == []


# Root may write anywhere, so it becomes somebody else first.
AS_NOBODY = """
import os, sys
import hybrid_jax.engine.fit
from hybrid_jax.main import main

if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
sys.exit(main(sys.argv))
"""


@pytest.mark.parametrize("name", ["", "run"])
def test_a_workdir_that_cannot_be_written_to_is_told_at_once(name):
    """Before data are prepared; nothing is left there."""
    with tempfile.TemporaryDirectory() as folder:  # not within pytest's, root's alone
        os.chmod(folder, 0o555)  # noqa: S103
        workdir = Path(folder, name)
        ended = subprocess.run(
            [
                sys.executable,
                "-c",
                AS_NOBODY,
                "--config=configs/digits.py",
                f"--workdir={workdir}",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 2
        assert ended.stderr == (
            f"hybrid-jax: --workdir={workdir} cannot be written to: you may not write "
            f"to {folder}; give a folder of yours\n"
        )
        assert not os.listdir(folder)
