"""The command: what it trains, what it writes, how it goes on, what it refuses."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from hybrid_jax.cli import flags
from hybrid_jax.cli.study import parse
from hybrid_jax.sweeps import progress, runs
from tests.commands import ROOT, hybrid_jax

EXPERIMENT = f"--config={ROOT / 'tests' / 'sweeps' / 'tiny.py'}"
SHORT = [EXPERIMENT, "--config.train.steps=12", "--config.optim.warmup_steps=2"]
CURVE = ["study", "low-data", *SHORT, "--models=tiny,tiny_4", "--per-class=5,10"]


def rows_of(folder):
    return [*csv.DictReader((folder / "results.csv").open(encoding="utf-8"))]


@pytest.fixture(scope="module")
def studied(tmp_path_factory, digits):
    """A study of one seed, which a second call extends by another."""
    folder = tmp_path_factory.mktemp("studies") / "a b?é"
    first = hybrid_jax(*CURVE, "--seeds=1", f"--workdir={folder}")
    assert first.returncode == 0, first.stderr
    before = {path: path.stat().st_mtime for path in folder.rglob("seed-0/*.json")}
    assert "One seed tells nothing" in first.stdout
    second = hybrid_jax(*CURVE, "--seeds=2", f"--workdir={folder}")
    assert second.returncode == 0, second.stderr
    return folder, before, second.stdout


def test_a_curve_is_measured_and_extended(studied):
    folder, before, out = studied
    assert {path: path.stat().st_mtime for path in before} == before
    assert "Resuming the study: 4 of 8 runs have ended" in out
    rows = rows_of(folder)
    keys = [(r["model"], r["images a class"], r["seed"]) for r in rows]
    assert sorted(keys) == sorted(
        (model, images, seed)
        for model in ("tiny", "tiny_4")
        for images in ("5", "10")
        for seed in "01"
    )
    assert {row["steps"] for row in rows} == {"12"}  # however many images
    for row in rows:
        run = folder / row["model"] / row["images a class"] / f"seed-{row['seed']}"
        results = json.loads((run / "results.json").read_text())
        assert float(row["test accuracy"]) == results["test"]["accuracy"]
        assert "validation" not in results  # nothing was chosen
        config = json.loads((run / "config.json").read_text())
        assert config["data"]["per_class"] == int(row["images a class"])
        assert config["data"]["split_seed"] == config["seed"] == int(row["seed"])


def test_its_table_figures_and_words_are_those_of_the_runs(studied):
    folder, _, out = studied
    about = json.loads((folder / "results.json").read_text())
    assert len(about["means"]) == 4
    assert about["conclusions"][0].startswith("tiny is ")
    for line in about["conclusions"]:
        assert line in out
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    svg = (folder / "curve.svg").read_text()
    assert svg.count("<!-- tiny_4 -->") == 1  # its label
    again = hybrid_jax(*CURVE, "--seeds=2", f"--workdir={folder}")
    assert again.returncode == 0
    assert (folder / "curve.svg").read_text() == svg


def test_a_study_without_a_terminal_says_how_far_it_is(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(runs, "WATCH_SECONDS", 0.0)
    run = hybrid_jax(
        *CURVE, "--seeds=1", "--config.train.log_every=3", f"--workdir={tmp_path / 's'}"
    )
    assert run.returncode == 0, run.stderr
    assert "Starting the study: 0 of 4 runs have ended" in run.stdout
    shares = re.findall(
        r"tiny_4, 5 images a class, seed 0: (\d+) %  \d+:\d\d left", run.stdout
    )
    assert "50" in shares


def test_an_experiment_without_a_model_of_its_own_is_studied(tmp_path, digits):
    experiment = tmp_path / "mine.py"
    text = (ROOT / "tests" / "sweeps" / "tiny.py").read_text(encoding="utf-8")
    assert 'get_config(model="tiny")' in text
    experiment.write_text(text.replace('model="tiny"', "model"))
    words = ["study", "low-data", f"--config={experiment}", *SHORT[1:]]
    words += ["--models=tiny", "--per-class=5", "--seeds=1"]
    run = hybrid_jax(*words, f"--workdir={tmp_path / 's'}")
    assert run.returncode == 0, run.stderr
    assert len(rows_of(tmp_path / "s")) == 1
    frozen = "--config.freeze=('stem', 'stage[12]')"
    asked = parse([*words[1:3], "--models=tiny,tiny_4", frozen])
    for config in asked.study.configs.values():  # so that its cost can be measured
        benchmark = flags.parse(asked.benchmark_flags(config), (), takes_config=True)
        assert flags.required_config(benchmark) == config


def test_results_of_other_images_do_not_mix_with_it(studied, tmp_path):
    """The list is a field of this machine, and yet it changes the images."""
    folder, *_ = studied
    (tmp_path / "listed.txt").write_text("train/0\n")
    changed = f"--config.data.exclude={tmp_path / 'listed.txt'}"
    run = hybrid_jax(*CURVE, "--seeds=2", changed, f"--workdir={folder}")
    assert run.returncode == 2
    assert "has results of other images: other labels" in run.stderr
    assert run.stderr.count("\n") == 1


def test_another_config_does_not_mix_with_it(studied):
    folder, *_ = studied
    words = [*CURVE, "--config.optim.weight_decay=0.3", f"--workdir={folder}"]
    run = hybrid_jax(*words)
    assert run.returncode == 2
    assert "weight_decay" in run.stderr and "Traceback" not in run.stderr
    words = ["study", "stability", *SHORT, f"--workdir={folder}"]
    assert "holds a study low-data" in hybrid_jax(*words).stderr


def test_rates_that_a_model_does_not_survive_are_counted(tmp_path, digits):
    words = ["study", "stability", *SHORT, "--rates=1,1e30", "--seeds=1"]
    words += ["--config.train.steps=100", "--config.optim.clip_norm=0"]
    run = hybrid_jax(*words, f"--workdir={tmp_path / 's'}")
    assert run.returncode == 0, run.stderr
    rows = rows_of(tmp_path / "s")
    states = {row["times the config's learning rate"]: row["state"] for row in rows}
    assert states == {"1": "complete", "1e+30": "diverged"}
    assert "1 of 2 runs failed (1 diverged): 1 of 1 at 1e+30 times" in run.stdout
    assert "(1 failed)" in run.stdout
    assert (tmp_path / "s" / "stability.png").stat().st_size > 10_000
    assert "test" not in json.loads(
        (tmp_path / "s/tiny/1/seed-0/results.json").read_text()
    )

    words[words.index("--rates=1,1e30")] = "--rates=1e30"
    run = hybrid_jax(*words, f"--workdir={tmp_path / 's'}")
    assert run.returncode == 0, run.stderr  # that all diverge is an answer
    assert "1 of 1 runs failed" in run.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            [],
            "the study is missing: give one of low-data, stability, scaling, ablation",
        ),
        (["low-dat"], "low-dat is no study, did you mean 'low-data'?"),
        (["low-data", "stability"], "stray argument 'stability'"),
        (["low-data", "--rates=1"], "--rates is for another study than low-data"),
        (["stability", "--rates=0"], "--rates=0 is not allowed: give different"),
        (["stability", "--rates=1,inf"], "--rates=1,inf is not allowed"),
        (["stability", "--rates=1,1.0000000000000002"], "give different numbers"),
        (["low-data", f"--per-class={10**400}"], "give different whole numbers"),
        (["low-data", "--per-class=5,5"], "--per-class=5,5 is not allowed"),
        (["low-data", "--per-class=2.5"], "give different whole numbers above 0"),
        (["low-data", "--per-class=,"], "--per-class=, is not allowed"),
        (["low-data", "--models=tiny,tiny"], "--models=tiny,tiny names tiny twice"),
        (["low-data", "--models=tiny,"], "--models=tiny, has an empty name"),
        (["low-data", "--models=tinny"], "tinny"),
        (["low-data", "--seeds=0"], "--seeds=0 is not allowed"),
        (
            ["low-data", "--config.optim.warmup_epochs=1"],
            "(config.train.epochs, config.optim.warmup_epochs): give all runs the "
            "same, with --config.train.steps=2000 --config.optim.warmup_steps=100",
        ),
        (
            ["low-data", *SHORT[1:], "--config.data.per_class=20", "--per-class=5"],
            "--config.data.per_class=20 has no effect on a study low-data",
        ),
        (
            ["low-data", *SHORT[1:], "--per-class=5,2000"],
            "--per-class=5,2000: class '8' has only 139 training images: give smaller",
        ),
        (
            ["low-data", *SHORT[1:], "--per-class=5", "--config.parallel.devices=64"],
            "config.parallel.devices=64, but there is 1 device:",
        ),
        (
            ["stability", "--config.data.split_seed=2147483647", "--seeds=2"],
            "config.data.split_seed=2147483647 and --seeds=2 lead to seeds of 2**31",
        ),
        (
            ["stability", "--config.data.validation=0"],
            "config.data.validation=0 leaves nothing to measure on",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(words, told, tmp_path, digits):
    workdir = tmp_path / "w"
    run = hybrid_jax("study", *words, EXPERIMENT, f"--workdir={workdir}")
    assert run.returncode == 2
    assert told in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert not [*workdir.rglob("seed-*")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run", CURVE),
        ("sweep", CURVE),
        ("study", ["sweep", *SHORT, "--sweep.train.batch_size=8,16"]),
    ],
)
def test_a_folder_of_something_else_is_left_alone(name, words, tmp_path, digits):
    file = tmp_path / {"run": "config.json"}.get(name, f"{name}.json")
    file.write_text('{"model": {}, "optim": {}, "train": {}}')
    run = hybrid_jax(*words, f"--workdir={tmp_path}")
    assert f"holds a {name}: give another folder for the " in run.stderr
    assert [*tmp_path.iterdir()] == [file]
    assert "is a file" in hybrid_jax(*CURVE, f"--workdir={file}").stderr


@pytest.mark.parametrize(
    "words", [CURVE, ["sweep", *SHORT, "--sweep.train.batch_size=8,16"]]
)
def test_nothing_is_written_among_the_images(words, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "cells" / name).mkdir(parents=True)
        for row in range(20):
            pixels = np.full((8, 8), 9 * row, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "cells" / name / f"{row}.png")
    before = {*tmp_path.rglob("*")}
    fields = ["--config.data.name=folder", f"--config.data.path={tmp_path / 'cells'}"]
    size, workdir = "--config.data.image_size=16,16", tmp_path / "cells" / "c"
    run = hybrid_jax(*words, *fields, size, f"--workdir={workdir}")
    assert run.returncode == 2
    assert f"--workdir={workdir} lies among the images" in run.stderr
    assert {*tmp_path.rglob("*")} == before


def test_models_are_given_in_one_place(tmp_path):
    words = ["study", "low-data", f"{EXPERIMENT}:tiny", "--models=tiny_4"]
    assert "give one of them" in hybrid_jax(*words, f"--workdir={tmp_path}").stderr
