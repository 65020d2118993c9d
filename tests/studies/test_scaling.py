"""What a study of scaling says and draws, of runs whose truth is known; the command."""

import csv
import itertools
import json
import math
import re

import numpy as np
import pytest
from scipy import stats

from hybrid_jax.config import default
from hybrid_jax.config.resolve import resolve
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import from_arrays
from hybrid_jax.errors import UserError
from hybrid_jax.models import create_model
from hybrid_jax.models.registry import MODELS, family_of
from hybrid_jax.studies import comparison, costs, published, scaling
from hybrid_jax.studies.costs import MEASURES, PARAMETERS, Cost
from hybrid_jax.studies.pareto import front
from hybrid_jax.studies.results import UNVARIED, Part, Results
from hybrid_jax.sweeps.runs import COMPLETE, DIVERGED, Outcome
from hybrid_jax.sweeps.workers import WorkerDied
from tests.commands import ROOT, hybrid_jax

EXPERIMENT = f"--config={ROOT / 'tests' / 'sweeps' / 'tiny.py'}"
SHORT = [EXPERIMENT, "--config.train.steps=12", "--config.optim.warmup_steps=2"]


def results(accuracies, parameters):
    """Results of `{model: [accuracy of each seed]}`, NaN diverged, with their costs."""
    outcomes = {}
    for model, shares in accuracies.items():
        for seed, share in enumerate(shares):
            outcome = Outcome(COMPLETE, test={"accuracy": share})
            if math.isnan(share):
                outcome = Outcome(DIVERGED, error="the loss is nan at step 7")
            outcomes[Part(model, UNVARIED, seed)] = outcome
    known = {
        name: Cost(count, 10 * count, count / 1e8, 4 * count, costs.PLAN, "1 image")
        for name, count in parameters.items()
    }
    return Results(outcomes, "test", known)


def config_of(**fields):
    config = default()
    config.data.name = "digits"
    config.update_from_flattened_dict(fields)
    return resolve(config)


def test_the_front_is_what_nothing_dominates():
    """Of every set of four points on a small grid, equal ones included."""
    grid = [*itertools.product(range(3), range(3))]
    for chosen in itertools.combinations_with_replacement(grid, 4):
        points = {str(number): point for number, point in enumerate(chosen)}
        undominated = {
            name
            for name, (cost, accuracy) in points.items()
            if not any(
                c <= cost and a >= accuracy and (c, a) != (cost, accuracy)
                for c, a in chosen
            )
        }
        found = front(points)
        assert {*found} == undominated and len(found) == len(undominated)
        assert [points[name][0] for name in found] == sorted(
            points[name][0] for name in found
        )
    assert front({}) == []


def test_families_are_models_that_differ_in_size_alone():
    expected = {
        "astroformer_femto": "astroformer",
        "astroformer_5_cctt": "astroformer_cctt",
        "coatnet_7": "coatnet",
        "coatnet_0_rw": "coatnet_rw",
        "wrn_28_10": "wrn",
        "vit_nano": "vit",
        "vit_base": "vit",
        "tiny": "tiny",
    }
    assert {name: family_of(name) for name in expected} == expected


def test_what_a_doubling_gains_is_the_slope_of_each_seed():
    sizes = {"vit_pico": 1e6, "vit_tiny": 2e6, "vit_base": 16e6}
    noise = np.random.default_rng(0).normal(0, 0.01, (3, 4))
    shares = {
        name: [*(0.3 + 0.04 * np.log2(size / 1e6) + noise[row])]
        for row, (name, size) in enumerate(sizes.items())
    }
    found = results(shares, sizes)
    slopes = scaling.gain_per_doubling(found, [*sizes], PARAMETERS)
    expected = [
        stats.linregress([0, 1, 4], [shares[name][seed] for name in sizes]).slope
        for seed in range(4)
    ]
    assert slopes == pytest.approx(expected)
    low, high = stats.t.interval(0.95, 3, np.mean(expected), stats.sem(expected))
    gains = [
        line for line in scaling.conclude(found, {"": config_of()}) if "ing" in line
    ]
    told = f"{100 * np.mean(expected):+.1f} ± {50 * (high - low):.1f}"
    line = "vit, 3 sizes: points of accuracy with each doubling of parameters " + told
    assert any(each.startswith(line) for each in gains)
    shares["vit_pico"][0] = math.nan  # a seed counts if it has all sizes
    rest = scaling.gain_per_doubling(results(shares, sizes), [*sizes], PARAMETERS)
    assert rest == pytest.approx(expected[1:])
    assert scaling.gain_per_doubling(found, ["vit_pico"], PARAMETERS) == []


def test_the_first_family_is_compared_with_models_of_like_cost():
    noise = np.array([0.0, 0.01, 0.02])
    shares = {
        "astroformer_pico": [*(0.5 + noise)],
        "astroformer_nano": [*(0.6 + noise)],
        "vit_pico": [*(0.4 + noise + [0.001, -0.001, 0])],
        "vit_nano": [*(0.605 + noise[::-1])],
        "wrn_16_1": [*(0.45 + noise)],
        "cbam_pico": [math.nan] * 3,
    }
    sizes = [1e6, 8e6, 1.9e6, 5e6, 4e5, 1e6]
    found = results(shares, dict(zip(shares, sizes, strict=True)))
    lines = scaling.conclude(found, {"": config_of()})
    told = "astroformer_pico, among models of 0.5 to 2 times its parameters, is "
    assert f"{told}ahead of vit_pico (+10.0 ± 0.2)" in lines
    told = "astroformer_nano, among models of 0.5 to 2 times its parameters, is "
    assert any(line.startswith(f"{told}not told apart from vit_nano") for line in lines)
    assert "cbam_pico: 3 runs failed; failed runs are left out" in lines
    assert (
        "Pareto front of mean accuracy and parameters, of 5 models: wrn_16_1, "
        "astroformer_pico, vit_nano"
    ) in lines
    assert "A training step has 1 image, and memory is what XLA plans" in lines[0]
    assert comparison.ONE_SEED not in lines
    one = {name: runs[:1] for name, runs in shares.items()}
    found = results(one, dict(zip(shares, sizes, strict=True)))
    assert comparison.ONE_SEED in scaling.conclude(found, {"": config_of()})


def test_costs_of_several_devices_are_told_not_to_compare():
    known = {
        name: Cost(1, 1, 1.0, 1, costs.PLAN, f"1 image on {name}") for name in "ab"
    }
    (line,) = costs.about(known)
    assert "1 image on a; or 1 image on b" in line
    assert line.endswith("these cannot be compared")
    assert costs.about({}) == []


def test_published_points_are_of_all_images_and_of_known_networks():
    assert {*published.PUBLISHED} == {
        "cifar10",
        "cifar100",
        "tiny_imagenet",
        "galaxy10",
    }
    for points in published.PUBLISHED.values():
        for point in points:
            assert (point.model in MODELS) == (not point.parameters)
            assert 0.5 < point.accuracy < 1 and point.source
    named = {"data.name": "cifar10"}
    assert len(published.published_for(config_of(**named))) == 5
    for field, value in {
        "data.per_class": 50,
        "data.fraction": 0.1,
        "data.protocol": "deic",
    }.items():
        assert not published.published_for(config_of(**named, **{field: value}))
    coarse = {"data.name": "cifar100", "data.label": "coarse_label"}
    assert not published.published_for(config_of(**coarse))
    assert not published.published_for(config_of())


def splits_of(classes):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2 * classes, 32, 32, 3), np.uint8)
    labels = np.repeat(np.arange(classes), 2)
    found = {"train": (images, labels), "test": (images, labels)}
    return from_arrays(found, DataConfig("made", validation=0))


def test_published_points_cost_what_our_network_of_that_name_costs(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(scaling, "load_splits", lambda config: splits_of(10))
    points = (
        published.Published("wrn_16_1", 0.9, "A 2016"),
        published.Published("vit_femto", 0.8, "B 2020"),
        published.Published("CCT-7/3x1", 0.85, "C 2021", 3_700_000),
    )
    monkeypatch.setitem(published.PUBLISHED, "cifar10", points)
    config = config_of(**{"data.name": "cifar10"})
    counted = published.count(points[0], config, splits_of(10))
    import jax

    variables = jax.eval_shape(
        create_model("wrn_16_1", 10, 32).init,
        jax.random.key(0),
        np.zeros((1, 32, 32, 3), np.float32),
    )
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert counted.parameters == sum(sizes) and counted.step_seconds is None
    assert published.count(points[2], config, splits_of(10)) == Cost(3_700_000)

    found = results(
        {"vit_femto": [0.5, 0.6], "vit_pico": [0.7, 0.7]}, {"vit_femto": 7e4}
    )
    lines = scaling.conclude(found, {"": config})
    assert (
        "vit_pico: its cost is not known, so it is in no figure; "
        "vit_pico/cost.json, if there is one, says why"
    ) in lines
    assert lines[-1] == (
        "Hollow points are published (A 2016; B 2020; C 2021) and not measured here"
    )
    scaling.draw(found, {"": config}, tmp_path / "s")
    svg = (tmp_path / "s.svg").read_text()
    # In the two panels of counts, and the one that was measured in all four.
    assert [svg.count(f"<!-- {p.model} -->") for p in points] == [2, 4, 1]
    assert svg.count("<!-- published: A 2016 -->") == 1
    assert svg.count("<!-- Pareto front of means -->") == 1


def rows_of(path):
    return [*csv.DictReader(path.open(encoding="utf-8"))]


def test_a_model_is_measured_in_a_process_of_its_own(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(costs, "SECONDS", 0.02)
    costs.benchmark([*SHORT, "--config.train.batch_size=24"], tmp_path / "cost.json")
    measured = json.loads((tmp_path / "cost.json").read_text())
    assert (measured["model"], measured["batch_size"]) == ("tiny", 24)
    assert costs.read_cost(tmp_path / "cost.json").conditions == (
        f"24 images in float32 on 1 x {measured['device']}"
    )
    memory, train = measured["memory"], measured["train"]
    for name, changed in {
        "memory": {"memory": 5},
        "macs": {"macs": "x"},
        "planned_bytes": {"memory": memory | {"planned_bytes": 5}},
        "peak_bytes": {"memory": memory | {"peak_bytes": "x"}},
        "ms_per_step": {"train": train | {"ms_per_step": None}},
    }.items():
        (tmp_path / "cost.json").write_text(json.dumps(measured | changed))
        with pytest.raises(UserError, match=f"cost.json has an unreadable .*'{name}'"):
            costs.read_cost(tmp_path / "cost.json")


def test_a_scaling_study_measures_trains_and_draws_once(
    tmp_path, digits, in_process, monkeypatch
):
    folder = tmp_path / "s"
    words = ["study", "scaling", *SHORT, "--models=tiny,tiny_4", "--seeds=2"]
    words.append(f"--workdir={folder}")
    run = hybrid_jax(*words)
    assert run.returncode == 0, run.stderr
    means = {row["model"]: row for row in rows_of(folder / "means.csv")}
    runs = rows_of(folder / "results.csv")
    assert [row["model"] for row in runs] == ["tiny", "tiny_4"] * 2
    for model, row in means.items():
        shares = [float(r["test accuracy"]) for r in runs if r["model"] == model]
        assert float(row["mean"]) == pytest.approx(np.mean(shares))
        assert row["runs"] == "2" and len([*folder.glob(f"{model}/seed-*")]) == 2
        own = json.loads((folder / model / "cost.json").read_text())
        parameters = float(row["parameters (millions)"]) * 1e6
        assert parameters == pytest.approx(own["parameters"])
        step = float(row["training step (ms)"])
        assert step == pytest.approx(own["train"]["ms_per_step"])
        planned = sum(own["memory"]["planned_bytes"].values())
        assert float(row["memory (MB)"]) * 1e6 == pytest.approx(planned)
    assert means["tiny"]["points"] == ""
    svg = (folder / "scaling.svg").read_text()
    for measure in MEASURES:
        assert f"<!-- {measure.title} -->" in svg
    about = json.loads((folder / "results.json").read_text())
    assert about["axis"] is None
    for line in about["conclusions"]:
        assert line in run.stdout

    monkeypatch.setattr(costs, "benchmark", None)  # nothing is measured again
    again = hybrid_jax(*words)
    assert again.returncode == 0, again.stderr
    assert (folder / "scaling.svg").read_text() == svg


def test_a_model_that_cannot_be_measured_is_named(tmp_path, monkeypatch):
    def refuse(flags, path):
        raise UserError("worker 1 ended with exit code 2, see above")

    said = []
    monkeypatch.setattr(costs, "benchmark", refuse)
    costs.measure({"a": config_of()}, tmp_path, lambda config: [], said.append)
    (line,) = said
    assert line.startswith("a is not measured: worker 1 ended with exit code 2, see ")
    assert line.endswith(f"delete {tmp_path / 'a' / 'cost.json'} to try again")
    assert costs.read(["a"], tmp_path) == {}
    monkeypatch.setattr(costs, "benchmark", None)  # not tried again, by any worker
    costs.measure({"a": config_of()}, tmp_path, lambda config: [], said.append)
    assert said == [line]


def test_a_model_whose_measurement_was_killed_is_measured_again(tmp_path, monkeypatch):
    def benchmark(flags, path):
        raise WorkerDied("worker 1 was ended by SIGKILL")

    said = []
    monkeypatch.setattr(costs, "benchmark", benchmark)
    for _ in range(2):
        costs.measure({"a": config_of()}, tmp_path, lambda config: [], said.append)
    again = "worker 1 was ended by SIGKILL: run the same command to resume"
    assert said == [f"a is not measured: {again}"] * 2
    assert not [*tmp_path.rglob("*cost.json*")]


def test_a_model_is_measured_again_with_other_settings(tmp_path, monkeypatch):
    def count(flags, path):
        measured.append(flags)
        path.write_text("{}")

    def measure(**fields):
        config = config_of(**{name.replace("__", "."): v for name, v in fields.items()})
        costs.measure({"a": config}, tmp_path, lambda c: [c.dtype], lambda line: None)
        return len(measured)

    measured = []
    monkeypatch.setattr(costs, "benchmark", count)
    monkeypatch.setattr(costs, "read_cost", lambda path: Cost(1))
    assert [measure(), measure(), measure(train__log_every=7, seed=1)] == [1, 1, 1]
    assert [measure(train__remat="full"), measure(train__remat="full")] == [2, 2]
    assert [measure(dtype="bfloat16"), measure(train__batch_size=3)] == [3, 4]
    (tmp_path / "a" / "cost.json").write_text("{}")  # of an older version
    assert measure() == 4


def test_models_of_the_file_are_compared_without_models_of_the_command(tmp_path):
    from hybrid_jax.cli.study import parse

    file = tmp_path / "mine.py"
    text = (ROOT / "tests" / "sweeps" / "tiny.py").read_text()
    file.write_text(text + "\nSTUDY_MODELS = ('tiny_4', 'tiny')\n")
    for words, models in {
        f"--config={file}": ["tiny_4", "tiny"],
        f"--config={file}:tiny": ["tiny"],
        f"--config={file} --config.model.name=tiny_4": ["tiny_4"],
        f"--config={file} --models=vit_tiny": ["vit_tiny"],
    }.items():
        asked = parse(["scaling", *words.split()])
        assert [*asked.study.configs] == models
        assert asked.folder.name.startswith("scaling-mine")


def test_flags_for_the_benchmark_make_the_same_config():
    from hybrid_jax.cli import flags
    from hybrid_jax.cli.study import parse

    words = ["--config=scaling/small", "--config.data.path=x", "--config.seed=3"]
    study = parse(["scaling", *words, "--models=wrn_16_4,vit_pico"]).study
    asked = parse(["scaling", *words, "--models=wrn_16_4,vit_pico"])
    for config in study.configs.values():
        parsed = flags.parse(asked.benchmark_flags(config), (), takes_config=True)
        found = flags.required_config(parsed)
        if config.model.name == "vit_pico":  # which passes over strides
            found = found.replace({"model.strides": config.model.strides})
        assert found == config


UNEQUAL = """
def get_config(model="tiny"):
    config = tiny(model)
    config.train.batch_size = 32 if model == "tiny" else 16
    return config
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--per-class=5"], "--per-class is for another study than scaling"),
        (["--of=layout"], "--of is for another study than scaling"),
        (
            ["--models=tiny,tiny_4"],
            "trained with config.train.batch_size of 16 and 32: give all the same "
            "value, such as --config.train.batch_size=32",
        ),
        (
            ["--config.data.test=false"],
            "--config.data.test=False has no effect on a study scaling",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(words, told, tmp_path, digits):
    file = tmp_path / "unequal.py"
    text = (ROOT / "tests" / "sweeps" / "tiny.py").read_text()
    file.write_text(text.replace("def get_config", "def tiny") + UNEQUAL)
    run = hybrid_jax("study", "scaling", *words, f"--config={file}", folder=tmp_path)
    assert run.returncode == 2
    assert told in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "studies").exists()


def test_data_without_a_test_split_are_refused(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (4, 32, 32, 3), np.uint8)
    found = {"train": (images, np.array([0, 1, 0, 1]))}
    splits = from_arrays(found, DataConfig("made", validation=0))
    monkeypatch.setattr(scaling, "load_splits", lambda config: splits)
    with pytest.raises(UserError, match="has no test split, which this study measures"):
        scaling.check({"a": config_of()}, (UNVARIED,), 1)


def test_names_of_parts_are_folders():
    assert Part("vit_tiny", UNVARIED, 3).folder == "vit_tiny/seed-3"
    assert re.fullmatch(r"vit_tiny/0\.1/seed-3", Part("vit_tiny", 0.1, 3).folder)
