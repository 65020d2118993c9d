"""However many devices share a run, its numbers are those of one.

Sums over a batch are added up in another order, so losses differ from the seventh
digit on in the first step, and by up to a thousandth at the end of these runs.
`HYBRID_JAX_KINDS=all` runs every kind; else those much like others are left out.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hybrid_jax.checkpoints.reader import CheckpointReader
from hybrid_jax.main import main
from tests import small_hybrid
from tests.parallel.runs import KINDS, LEFT_OUT, RESUMED, STEPS, STOP, environment

ROOT = Path(__file__).parents[2]
FIRST, LATER = 1e-5, 2e-3  # relative differences of losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the runs of `tests.parallel.runs` are."""
    small_hybrid.add_row()  # for an evaluation in this process
    folder = tmp_path_factory.mktemp("kinds")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.parallel.runs", str(folder)],
        cwd=ROOT,
        env=environment(8),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    codes = json.loads(ended.stdout.splitlines()[-1])
    assert codes.pop("stopped") == 143
    assert set(codes.values()) == {0}, ended.stderr
    return folder


def marked(names) -> list:
    """Names, those that are left out to be skipped."""
    skip = pytest.mark.skip(reason="only with HYBRID_JAX_KINDS=all")
    return [pytest.param(n, marks=skip if n in LEFT_OUT else ()) for n in names]


def losses(workdir: Path) -> list[float]:
    """Of every step, and of the validation and the test split at the end."""
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows]


def compare(workdir: Path, with_one: list[float]) -> None:
    found = losses(workdir)
    assert len(found) == STEPS + 2
    assert found[0] == pytest.approx(with_one[0], rel=FIRST)
    assert found == pytest.approx(with_one, rel=LATER)


@pytest.mark.parametrize("name", marked(name for name in KINDS if name != "jit on 1"))
def test_every_kind_has_the_losses_of_one_device(folder, name):
    with_one = losses(folder / "jit on 1")
    assert with_one[STEPS - 1] < with_one[0] - 0.1  # it does learn something
    compare(folder / name, with_one)


@pytest.mark.parametrize("name", marked(RESUMED))
def test_what_eight_devices_saved_others_continue(folder, name):
    log = (folder / name / "log.txt").read_text()
    assert f"Resuming after step {STOP} of {STEPS}" in log
    compare(folder / name, losses(folder / "jit on 1"))


def test_one_device_reads_what_eight_saved(folder):
    saved = CheckpointReader(folder / "stopped" / "checkpoints")
    kernel = saved.load_state(STOP)["params"]["stage2_block1"]["attention"]["qkv"][
        "kernel"
    ]
    assert len(kernel.devices()) == 1
    assert np.isfinite(kernel).all()


def test_an_evaluation_takes_the_devices_that_are_there(folder, capsys):
    """Of a run that shared batches and parameters between eight."""
    assert main(["hybrid-jax", "--mode=eval", f"--workdir={folder / 'stopped'}"]) == 0
    assert f"step {STOP}" in capsys.readouterr().out


def test_a_run_says_what_it_runs_on(folder):
    log = (folder / "jit on 2 x 4" / "log.txt").read_text()
    assert "on 8 x cpu, by jit, parameters sharded over 4" in log
