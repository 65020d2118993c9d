"""Runs that are killed or told to end, at any time, on the real digits.

`HYBRID_JAX_KILLS=15` kills one run 10 times with SIGKILL and 5 times with SIGTERM.
"""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from hybrid_jax.checkpoints.reader import CheckpointReader, is_evaluated
from hybrid_jax.engine import loop
from hybrid_jax.parallel import signals
from tests.commands import hybrid_jax

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("HYBRID_JAX_KILLS", "2"))
EPOCHS = 5 + KILLS // 2
# Long enough to be met at work: as many evaluations, 4 lines of metrics between two.
# Of few images in small batches, since seven runs take these steps.
COMMAND = (
    sys.executable,
    "-m",
    "hybrid_jax.main",
    "--config=tests/small_hybrid.py",
    f"--config.train.epochs={EPOCHS}",
    "--config.train.eval_every=1",
    "--config.train.log_every=7",
    "--config.data.per_class=20",
    "--config.train.batch_size=8",
)
STREAM = "--config.data.loader=stream"


def start(workdir, *more) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}", *more],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(workdir, *more) -> str:
    done = hybrid_jax(*COMMAND[3:], f"--workdir={workdir}", *more)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def result(workdir) -> tuple:
    """The last step, the sha256 of its state, and every line of metrics."""
    saved = CheckpointReader(workdir / "checkpoints")
    step = saved.latest()
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(saved.load_state(step)):
        digest.update(str(path).encode() + np.asarray(array).tobytes())
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    timed = {"seconds", "images_per_second"}
    kept = [{k: v for k, v in row.items() if k not in timed} for row in rows]
    return step, digest.hexdigest(), kept


def wait_for(process, seen, seconds: float = 600) -> None:
    """Returns once `seen()`, or the process ends."""
    end = time.monotonic() + seconds
    while not seen() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)


def rows(workdir) -> int:
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    finish(workdir)
    return result(workdir)


def assert_ended(code, err, number, workdir) -> int:
    """By a signal, in one line that tells the step that is saved; returns the step."""
    assert code == 128 + number
    step = CheckpointReader(workdir / "checkpoints").latest()
    assert err.splitlines()[-1] == (
        f"hybrid-jax: ended by {signal.Signals(number).name} with step {step} saved; "
        "run the same command to resume"
    )
    assert "Traceback" not in err
    return step


def test_a_run_that_is_told_to_end_saves_its_step_and_goes_on(tmp_path):
    """Streamed, by processes or threads: another program than with all images."""
    workdir = tmp_path / "run"
    words = [*COMMAND[3:], f"--workdir={workdir}", STREAM]
    early = hybrid_jax(*words, "--config.debug.inject=term@9")  # in the first epoch
    assert_ended(early.returncode, early.stderr, signal.SIGTERM, workdir)

    process = start(workdir, STREAM, "--config.data.workers=1")
    wait_for(process, lambda: rows(workdir) >= 12)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C, processes of a stream included
    _, err = process.communicate()
    step = assert_ended(process.returncode, err, signal.SIGINT, workdir)
    assert step > 9
    assert f"Resuming after step {step} of " in finish(workdir, STREAM)
    finish(tmp_path / "whole", STREAM)
    assert result(workdir) == result(tmp_path / "whole")


def test_a_run_is_ended_while_it_compiles(uninterrupted, tmp_path, monkeypatch):
    """Nothing is trained yet, so nothing is saved, and no program is waited for."""
    workdir, cache = tmp_path / "run", tmp_path / "cache"
    shared, program = Path(jax.config.jax_compilation_cache_dir), "jit_train_steps*"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    process = start(workdir)
    wait_for(process, (workdir / "data.json").exists)  # the training step was traced
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 143
    said = "hybrid-jax: ended by SIGTERM; run the same command to resume\n"
    assert err.endswith(said)
    assert "Traceback" not in err
    assert cache.is_dir()
    assert any(shared.glob(program))  # of the run that was not interrupted
    assert not any(cache.glob(program))


@pytest.mark.parametrize("evaluation", [1, EPOCHS, EPOCHS + 1])
def test_an_evaluation_that_was_left_is_made_up_for(
    uninterrupted, tmp_path, monkeypatch, evaluation
):
    """The last one is that of the test split."""
    count = itertools.count(1)

    def wait(arrays):
        if next(count) == evaluation:
            os.kill(os.getpid(), signal.SIGTERM)
        signals.wait_until_ready(arrays)

    workdir = tmp_path / "run"
    monkeypatch.setattr(loop, "wait_until_ready", wait)
    ended = hybrid_jax(*COMMAND[3:], f"--workdir={workdir}")
    assert ended.returncode == 143
    saved = CheckpointReader(workdir / "checkpoints")
    assert f"with step {saved.latest()} saved" in ended.stderr
    assert is_evaluated(saved.metrics(saved.latest())) == (evaluation > EPOCHS)
    assert not (workdir / "results.json").exists()
    finish(workdir)
    assert result(workdir) == uninterrupted


def test_killed_at_random_it_ends_with_the_same_numbers(uninterrupted, tmp_path):
    workdir, rng = tmp_path / "run", np.random.default_rng(0)
    for kill in range(KILLS):
        seen = rows(workdir) + rng.integers(2 + 12 // KILLS)
        process = start(workdir)
        if kill % 4 == 1:  # while it starts
            time.sleep(rng.uniform(0, 3))
        else:  # at work, of which something is left for the next
            wait_for(process, lambda: rows(workdir) > seen)  # noqa: B023
            time.sleep(rng.uniform(0, 0.1))
        assert process.poll() is None
        process.send_signal(signal.SIGTERM if kill % 3 == 2 else signal.SIGKILL)
        process.communicate()
    finish(workdir)
    assert result(workdir) == uninterrupted
