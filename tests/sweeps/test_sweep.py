"""The command: two fields, two seeds, a worker that is killed, two at once."""

import csv
import json
import re
import shlex
import subprocess
import sys
import time

import psutil
import pytest

from hybrid_jax.sweeps import progress, runs
from tests.commands import ROOT, hybrid_jax

TINY = [f"--config={ROOT / 'tests' / 'sweeps' / 'tiny.py'}"]
FIELDS = [
    "--sampler=grid",
    # None of them changes a program, so that little is compiled.
    "--sweep.train.sampling=uniform,balanced",
    "--sweep.train.checkpoint=best,last",
]
SETTINGS = ["--config.train.epochs=5", "--seeds=2"]
PROGRAM = [sys.executable, "-m", "hybrid_jax.main", "sweep"]


def replaced(words, *others):
    """Words of a command line, whose flags others replace."""
    names = {other.partition("=")[0] for other in others}
    return [*(w for w in words if w.partition("=")[0] not in names), *others]


def start(*words):
    return subprocess.Popen(
        [*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(pattern, folder, worker):
    """Waits for a file of a sweep; returns its path."""
    while worker.poll() is None:
        for path in folder.glob(pattern):
            return path
        time.sleep(0.02)
    raise AssertionError(worker.stdout.read())


def kill_half_way(folder, parent, workers):
    """Kills that worker which saves the first checkpoint; returns the run it was in."""
    saved = wait_for("trials/*/*/checkpoints/*/manifest.json", folder, parent)
    claimed = str(saved.parents[3] / ".claim")
    for worker in map(psutil.Process, workers()):
        if claimed in [opened.path for opened in worker.open_files()]:
            worker.kill()
            return saved.parents[2]
    raise AssertionError(f"nobody holds {claimed}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """A folder whose name a database's URL could misread."""
    return tmp_path_factory.mktemp("sweeps") / "a b?é"


@pytest.fixture(scope="module")
def swept(folder):
    """A sweep of two workers, one of which was killed half-way through a trial."""
    words = [*TINY, *FIELDS, *SETTINGS, f"--workdir={folder}", "--workers=2"]
    parent = start(*words)

    def workers():
        return [child.pid for child in psutil.Process(parent.pid).children()]

    killed = kill_half_way(folder, parent, workers)
    assert not (killed / "results.json").exists()
    out, _ = parent.communicate(timeout=300)
    assert parent.returncode == 0, out
    assert "was ended by SIGKILL" in out
    return killed, out


def test_a_killed_trial_is_continued_from_its_checkpoint(folder, swept):
    killed, out = swept
    log = (killed / "log.txt").read_text()
    assert "Resuming after step " in log
    rows = [*csv.DictReader((folder / "results.csv").open(encoding="utf-8"))]
    assert sorted(int(row["trial"]) for row in rows) == [0, 1, 2, 3]
    assert {row["state"] for row in rows} == {"complete"}
    assert {row["runs"] for row in rows} == {"2"}
    tried = {(row["train.checkpoint"], row["train.sampling"]) for row in rows}
    assert len(tried) == 4
    assert out.count("trial 0: validation") == 1
    assert out.count(" left\n") == 3  # each trial in one line
    assert len([*folder.glob("trials/*/seed-[01]/results.json")]) == 8


def test_a_table_says_what_the_runs_came_to(folder, swept):
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))["trials"]
    means = [row["mean"] for row in found]
    assert means == sorted(means, reverse=True)
    for row in found:
        trial = folder / "trials" / f"{row['trial']:04}"
        values = [
            json.loads((trial / f"seed-{seed}" / "results.json").read_text())
            for seed in (0, 1)
        ]
        assert row["values"] == [v["validation"]["accuracy"] for v in values]
        low, high = row["interval_95"]
        # Student's t of one degree of freedom.
        half = 12.7062 * abs(row["values"][0] - row["values"][1]) / 2
        expected = max(row["mean"] - half, 0), min(row["mean"] + half, 1)
        assert (low, high) == pytest.approx(expected, rel=1e-4, abs=1e-9)
    for name in ("importances.png", "history.png", "slices.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_winners_command_trains_it(folder, swept, tmp_path):
    _, out = swept
    line = next(line for line in out.splitlines() if line.startswith("The winner"))
    words = shlex.split(line.partition(": ")[2])
    train = words.index("train")
    run = tmp_path / "run"
    told = hybrid_jax(*words[train:-1], f"--workdir={run}", "--config.train.epochs=1")
    assert told.returncode == 0, told.stderr
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert line.endswith(f": {found['command of the winner']}")
    best = found["trials"]
    config = json.loads((run / "config.json").read_text())
    assert config["train"]["checkpoint"] == best[0]["config"]["train.checkpoint"]
    assert config["train"]["sampling"] == best[0]["config"]["train.sampling"]


def test_the_same_command_again_only_shows_and_another_is_refused(folder, swept):
    words = ["sweep", *TINY, *FIELDS, *SETTINGS, f"--workdir={folder}"]
    before = {p: p.stat().st_mtime_ns for p in folder.glob("trials/*/*/*.json")}
    table = (folder / "results.csv").read_text(encoding="utf-8")
    (folder / "results.csv").unlink()
    again = hybrid_jax(*words)
    assert again.returncode == 0, again.stderr
    assert (folder / "results.csv").read_text(encoding="utf-8") == table
    assert "4 trials: 4 complete" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before
    for other, told in (
        ("--config.optim.weight_decay=0.5", "config.optim.weight_decay is 0.05 there"),
        ("--sweep.train.sampling=balanced,uniform", "space is "),
        ("--sampler=tpe", "sampler is 'grid' there and 'tpe' here"),
        ("--seeds=3", "seeds is 2 there and 3 here"),
    ):
        refused = hybrid_jax(*replaced(words, other))
        assert refused.returncode == 2
        assert told in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_a_diverged_trial_is_counted_and_the_winner_tested(tmp_path, digits):
    folder = tmp_path / "s"
    words = ["--sampler=grid", "--sweep.optim.learning_rate=1e30,0.01", "--retrain=2"]
    one_epoch = ["--config.train.epochs=1", f"--workdir={folder}"]
    told = hybrid_jax("sweep", *TINY, *words, *one_epoch)
    assert told.returncode == 0, told.stderr
    assert "trial 0: diverged (seed-0: the loss is nan at step" in told.stdout
    assert "2 trials: 1 complete, 1 diverged" in told.stdout
    assert "One run a trial tells nothing of the spread" in told.stdout
    assert "0 of 4 trials and runs of the winner have ended" in told.stdout
    rows = json.loads((folder / "results.json").read_text())["trials"]
    means = [(row["trial"], row["mean"] is None) for row in rows]
    assert means == [(1, False), (0, True)]
    tested = []
    for seed in (0, 1):
        run = folder / "winner-trial-1" / f"seed-{seed}"
        tested.append(json.loads((run / "results.json").read_text())["test"])
        percent = f"{100 * tested[-1]['accuracy']:.2f} %"
        assert f"winner, seed {seed}: test {percent} in " in told.stdout
        config = json.loads((run / "config.json").read_text())
        assert (config["data"]["validation"], config["seed"]) == (0, seed)
    mean = 50 * (tested[0]["accuracy"] + tested[1]["accuracy"])
    assert f"on all training images: {mean:.2f} % (" in told.stdout


def test_a_sweep_without_a_terminal_says_how_far_it_is(tmp_path, digits, monkeypatch):
    """Also before the first evaluation."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(runs, "WATCH_SECONDS", 0.0)
    words = ["--sampler=grid", "--sweep.optim.clip_norm=1,2", "--retrain=1"]
    schedule = ["--config.train.log_every=3", f"--workdir={tmp_path / 's'}"]
    told = hybrid_jax("sweep", *TINY, *words, *schedule)
    assert told.returncode == 0, told.stderr
    first = re.search(r"^trial 0: (\d+) %  \d+:\d\d left", told.stdout, re.M)
    assert first and 0 < int(first[1]) < 50
    assert re.search(
        r"^trial 1: \d+ %, validation [\d.]+ %  \S+ left", told.stdout, re.M
    )
    assert re.search(r"^winner, seed 0: \d+ %  \d+:\d\d left", told.stdout, re.M)


def test_mistakes_before_the_first_trial_cost_nothing(tmp_path):
    workdir = f"--workdir={tmp_path / 's'}"
    (tmp_path / "file").write_text("")
    for words, told in (
        (["--storage=mysql://u:secret@h/d"], "--storage=mysql://u@h/d is not allowed"),
        (["--storage=postgresql://u:secret@127.0.0.1:1/d"], "--storage fails ("),
        (
            ["--storage=mysql://u:a/secret@h/d"],
            "--storage=mysql://u@h/d is not allowed",
        ),
        (
            ["--storage=mysql://u:a@secret@h/d"],
            "--storage=mysql://u@h/d is not allowed",
        ),
        (["--storage=mysql://h/d?password=secret"], "--storage=mysql://h/d is not"),
        (["--config.data.name=digist"], "did you mean 'digits'?"),
        ([f"--workdir={tmp_path / 'file'}"], "is a file; give a folder"),
    ):
        given = replaced([*TINY, *FIELDS, workdir], *words)
        refused = hybrid_jax("sweep", *given)
        assert refused.returncode == 2
        assert told in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert "secret" not in refused.stderr
    assert "secret" not in (tmp_path / "s" / "sweep.json").read_text()
    assert not (tmp_path / "s" / "trials").exists()
