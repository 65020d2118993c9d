"""A run of the older layout, which had no validation split, is read and continued.

run_of_layout_1.tar.gz is a run of version 0.1.0 of 26 November 2026, ended by SIGTERM
at step 8 of 10, without its pictures and all but its newest checkpoint:

    hybrid-jax --config=configs/digits.py --workdir=run --config.train.epochs=3 \\
        --config.train.eval_every=1 --config.optim.warmup_epochs=1 \\
        --config.optim.ema_decay=0 --config.data.per_class=20 \\
        --config.freeze="('stem','stage','head/hidden')" --config.debug.inject=term@8
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

import hybrid_jax
from hybrid_jax.errors import UserError
from hybrid_jax.main import main

HERE = Path(__file__).parent
CONFIG = f"--config={HERE.parents[1] / 'configs' / 'digits.py'}"
COMMAND = (
    "hybrid-jax",
    CONFIG,
    "--config.train.epochs=3",
    "--config.train.eval_every=1",
    "--config.train.report=false",
    "--config.optim.warmup_epochs=1",
    "--config.optim.ema_decay=0",
    "--config.data.per_class=20",
    "--config.freeze=('stem','stage','head/hidden')",
)
# What that version's own continuation wrote as its last line, on the machine of before.
TRAINED = {"loss": 2.291566848754883, "accuracy": 0.11979166666666667}
TESTED = {"loss": 2.3191387600368922, "accuracy": 0.1, "top5": 0.5277777777777778}


@pytest.fixture
def workdir(tmp_path):
    with tarfile.open(HERE / "run_of_layout_1.tar.gz") as archive:
        archive.extractall(tmp_path / "run", filter="data")
    return tmp_path / "run"


def test_it_is_opened_and_evaluated(workdir, capsys):
    run = hybrid_jax.load_run(workdir)
    assert run.checkpoint == 8
    assert run.classes == tuple("0123456789")
    assert run.config.data.validation == 0
    assert run.evaluate("test")["loss"] == pytest.approx(TESTED["loss"], rel=0.01)
    with pytest.raises(UserError, match="no split 'validation': there are train, test"):
        run.evaluate("validation")
    with pytest.raises(UserError, match="so none is best: give last"):
        hybrid_jax.load_run(workdir, "best")
    images = np.zeros((2, 8, 8), np.uint8)
    np.testing.assert_allclose(run.predict(images).sum(1), 1, atol=1e-5)
    assert main(["hybrid-jax", "--mode=eval", f"--workdir={workdir}"]) == 0
    assert "step 8" in capsys.readouterr().out


def test_it_is_continued_by_its_own_command(workdir, capsys):
    command = [*COMMAND, f"--workdir={workdir}"]
    for said in ("Resuming after step 8 of 10", "nothing left to train"):
        assert main(command) == 0
        out = capsys.readouterr().out
        assert said in out
        assert "it continues with config.data.validation=0" in out
        assert "10.00 %" in out
    rows = [json.loads(row) for row in (workdir / "metrics.jsonl").open()]
    assert [row["step"] for row in rows if row["split"] == "test"] == [4, 7, 10]
    for row, expected in zip(rows[-2:], (TRAINED, TESTED), strict=True):
        assert {name: row[name] for name in expected} == pytest.approx(expected, 1e-4)
    results = json.loads((workdir / "results.json").read_text())
    assert (results["weights"], results["checkpoint"]) == ("last", 10)


def test_another_validation_split_is_another_run(workdir, capsys):
    command = [*COMMAND, f"--workdir={workdir}", "--config.data.validation=2/5"]
    assert main(command) == 2
    assert "config.data.validation is 0 there and '2/5' here" in capsys.readouterr().err
