"""Ablations: their table, what they say of runs whose truth is known, the command."""

import csv
import itertools
import math
import re

import numpy as np
import pytest
from scipy import stats

from hybrid_jax.config.files import load_config
from hybrid_jax.config.resolve import block_config_of, resolve
from hybrid_jax.models.registry import MODELS, parse_stack
from hybrid_jax.studies import ablation, costs
from hybrid_jax.studies.costs import Cost
from hybrid_jax.studies.results import UNVARIED, Part, Results
from hybrid_jax.studies.study import KINDS
from hybrid_jax.studies.variants import ABLATIONS
from hybrid_jax.sweeps.runs import COMPLETE, DIVERGED, Outcome
from tests.commands import ROOT, hybrid_jax

EXPERIMENT = f"--config={ROOT / 'tests' / 'sweeps' / 'tiny.py'}"
SHORT = [EXPERIMENT, "--config.train.steps=12", "--config.optim.warmup_steps=2"]


def results(accuracies, known=None):
    """Results of `{variant: [accuracy of each seed]}`; NaN diverged."""
    outcomes = {}
    for variant, shares in accuracies.items():
        for seed, share in enumerate(shares):
            outcome = Outcome(COMPLETE, test={"accuracy": share})
            if math.isnan(share):
                outcome = Outcome(DIVERGED, error="the loss is nan at step 7")
            outcomes[Part(variant, UNVARIED, seed)] = outcome
    return Results(outcomes, "test", known or {})


@pytest.mark.parametrize("name", ABLATIONS)
@pytest.mark.parametrize("experiment", ["scaling/small", "digits"])
def test_every_variant_is_another_network_and_a_folder(name, experiment):
    fields = {"data.path": "x"} if experiment == "scaling/small" else {}
    own = resolve(load_config(experiment, fields))
    kind = KINDS[f"ablation-{name}"]
    built = {}
    for variant, changed in kind.variants.items():
        assert re.fullmatch(r"[A-Za-z][\w-]*", variant)
        model = resolve(own.replace({**changed})).model
        row = MODELS[model.name]
        built[variant] = parse_stack(model.stack) or row.stack, block_config_of(model)
    for one, other in itertools.combinations(built, 2):
        assert built[one] != built[other]


def test_what_a_variant_is_worth_is_told_by_the_interval_of_its_differences():
    noise = np.array([0.0, 0.01, 0.03])
    shares = {
        "plain": [*(0.5 + noise)],
        "better": [*(0.55 + noise + [0.001, 0, -0.001])],
        "worse": [*(0.46 + noise + [0.001, 0, -0.001])],
        "noisy": [*(0.51 + noise[::-1])],
        "broken": [0.7, math.nan, 0.72],
        "lost": [math.nan] * 3,
    }
    known = {
        "plain": Cost(100, 10, 0.2, 50, costs.PLAN, "1 image"),
        "better": Cost(150, 20, 0.1, 50, costs.PLAN, "1 image"),
    }
    found = results(shares, known)
    lines = ablation.conclude(found, dict.fromkeys(shares))
    assert (
        "better is better than plain, by +5.0 ± 0.2 points (3 seeds). It costs 1.50 "
        "(parameters), 2.00 (MACs), 0.50 (training step), 1.00 (memory) times as much"
    ) in lines
    assert "worse is worse than plain, by -4.0 ± 0.2 points (3 seeds)" in lines
    differences = 100 * (np.array(shares["noisy"]) - shares["plain"])
    half = stats.t.ppf(0.975, 2) * stats.sem(differences)
    assert (
        "noisy cannot be told apart from plain with 3 seeds: "
        f"{differences.mean():+.1f} ± {half:.1f} points"
    ) in lines
    assert any(re.match(r"broken .*2 seeds\b", line) for line in lines)
    assert "broken: 1 run failed; failed runs are left out" in lines
    assert "lost shares no seed with plain, so they cannot be compared" in lines
    one = results({"plain": [0.5], "other": [0.6]})
    (line,) = ablation.conclude(one, dict.fromkeys(["plain", "other"]))
    assert line.endswith("by +10.0 points; one seed tells nothing of the spread")
    equal = results({"plain": [0.5, 0.6], "other": [0.6, 0.7]})
    (line,) = ablation.conclude(equal, dict.fromkeys(["plain", "other"]))
    told = "cannot be told apart from plain with 2 seeds: +10.0 points in each of them"
    assert line == f"other {told}"


def test_the_figure_shows_every_variant_but_the_first(tmp_path):
    shares = {"C-C-C-C": [0.5, 0.6], "C-C-C-T": [0.52, 0.63], "S-S-S-S": [0.4, 0.55]}
    ablation.draw(results(shares), dict.fromkeys(shares), tmp_path / "a")
    svg = (tmp_path / "a.svg").read_text()
    assert [svg.count(f"<!-- {name} -->") for name in shares] == [0, 1, 1]
    assert "points of test accuracy more than C-C-C-C" in svg
    assert "seeds, mean and 95 % interval" in svg
    of_one = results({name: found[:1] for name, found in shares.items()})
    ablation.draw(of_one, dict.fromkeys(shares), tmp_path / "b")
    assert "<!-- one seed -->" in (tmp_path / "b.svg").read_text()


def test_variants_of_one_model_are_trained_and_compared(
    tmp_path, digits, in_process, monkeypatch
):
    """On a network of one block, so with other variants than a user's."""
    variants = {"fast": {}, "slow": {"optim.learning_rate": 1e-6}}
    kind = KINDS["ablation-layout"]._replace(variants=variants)
    monkeypatch.setitem(KINDS, "ablation-layout", kind)
    folder = tmp_path / "a"
    words = ["study", "ablation", "--of=layout", *SHORT, "--seeds=2"]
    run = hybrid_jax(*words, f"--workdir={folder}")
    assert run.returncode == 0, run.stderr
    runs = [*csv.DictReader((folder / "results.csv").open())]
    shares = {
        variant: [float(r["test accuracy"]) for r in runs if r["model"] == variant]
        for variant in variants
    }
    fast, slow = [*csv.DictReader((folder / "means.csv").open())]
    assert (fast["model"], fast["points"], slow["runs"]) == ("fast", "", "2")
    points = 100 * (np.array(shares["slow"]) - shares["fast"])
    assert float(slow["points"]) == pytest.approx(points.mean())
    half = stats.t.ppf(0.975, 1) * stats.sem(points)
    assert float(slow["points_low"]) == pytest.approx(points.mean() - half)
    assert fast["parameters (millions)"] == slow["parameters (millions)"]
    assert (folder / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert re.search("^slow .* fast", run.stdout, re.M)
    run = hybrid_jax("study", "ablation", "--of=blocks", *SHORT, f"--workdir={folder}")
    assert run.returncode == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            [],
            "ablation needs one of --of=layout, --of=attention, --of=blocks, --of",
        ),
        (["--of=depth"], "--of=depth is not allowed: one of layout, attention, blocks"),
        (["--of=layout", "--models=tiny"], "--models is for another study than"),
        (
            ["--of=layout"],
            "variant C-C-C-C: config.model.stack='C-C-C-C' names 4 stages",
        ),
        (
            ["--of=attention"],
            "variant post: config.model.attention='post' has no effect",
        ),
        (
            ["--of=layout", "--config=digits", "--config.model.stack=C-C-T-T"],
            "--config.model.stack=C-C-T-T has no effect on a study ablation-layout",
        ),
        (
            ["--of=shifts", "--config=digits", "--config.model.downsample=aps"],
            "--config.model.downsample=aps has no effect on a study ablation-shifts",
        ),
        (["--of=attention", "--config=digits:vit_tiny"], "take a hybrid"),
        (
            ["--of=attention", "--config=digits", "--config.model.stack=C-C-C-C"],
            "with config.model.stack='C-C-C-C', which has no relative attention",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(words, told, tmp_path, digits):
    config = [] if any(word.startswith("--config=") for word in words) else [EXPERIMENT]
    run = hybrid_jax(
        "study", "ablation", *words, *config, f"--workdir={tmp_path / 'w'}"
    )
    assert run.returncode == 2
    assert told in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "w").exists()
