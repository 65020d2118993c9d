"""What a study says, of runs whose truth is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import optimize

from hybrid_jax.config import default
from hybrid_jax.config.resolve import resolve
from hybrid_jax.errors import UserError
from hybrid_jax.studies import comparison, figures, low_data, report, stability
from hybrid_jax.studies.power_law import fit_power_law
from hybrid_jax.studies.results import Part, Results
from hybrid_jax.sweeps.runs import COMPLETE, DIVERGED, REFUSED, Outcome

IMAGES = [10, 25, 50, 100, 250]


def results(accuracies, split="test"):
    """Results of `{model: {value: [accuracy of each seed]}}`; NaN diverged."""
    outcomes = {}
    for model, values in accuracies.items():
        for value, shares in values.items():
            for seed, share in enumerate(shares):
                outcome = Outcome(COMPLETE, **{split: {"accuracy": share}})
                if math.isnan(share):
                    outcome = Outcome(DIVERGED, error="the loss is nan at step 7")
                outcomes[Part(model, value, seed)] = outcome
    return Results(outcomes, split)


def test_a_power_law_is_found_again():
    law = fit_power_law(IMAGES, [0.8 * n**-0.25 for n in IMAGES])
    assert law.factor == pytest.approx(0.8)
    assert [law.low, law.exponent, law.high] == pytest.approx([0.25] * 3, abs=1e-6)
    # Half the error takes 2**4 times the images.
    found = law.images_for(0.4, 100, 0.2)
    assert found == pytest.approx((1600, 1600, 1600), rel=1e-4)


def test_its_uncertainty_is_that_of_least_squares():
    errors = np.array([0.5, 0.37, 0.33, 0.21, 0.19])
    law = fit_power_law(IMAGES, errors)
    (_, exponent), covariance = optimize.curve_fit(
        lambda x, a, b: a - b * x, np.log(IMAGES), np.log(errors)
    )
    assert law.exponent == pytest.approx(exponent, rel=1e-5)
    half = 3.1824 * math.sqrt(covariance[1, 1])  # Student's t, three degrees of freedom
    assert law.high - law.exponent == pytest.approx(half, rel=1e-3)
    likely, least, most = law.images_for(0.19, 250, 0.18)
    assert 250 < least < likely < most


def test_no_law_is_made_of_two_points_or_of_no_error():
    assert fit_power_law([10, 20], [0.2, 0.1]) is None
    assert fit_power_law([10, 20, 40], [0.2, 0.1, 0.0]) is None


@pytest.mark.parametrize("growth", [0.0, 0.01])
def test_images_that_do_not_help_promise_nothing(growth):
    """In the limit of the interval, any number of images may not be enough."""
    law = fit_power_law(IMAGES, [0.3 + growth, 0.3, 0.3 + growth, 0.3, 0.3 + growth])
    assert law.images_for(0.3, 250, 0.2)[2] == math.inf
    curve = {n: [0.7, 0.7] for n in IMAGES}
    (line,) = low_data.conclude(results({"a": curve}), {})
    assert line.endswith(
        "b = 0.000 (0.000 to 0.000); more images did not lower the error"
    )


def test_it_is_said_where_one_model_overtakes_another():
    noise = np.array([0.0, 0.01, 0.02])
    gains = {10: -0.1, 25: -0.05, 50: 0.0, 100: 0.04, 250: 0.05}
    ours = {n: [*(0.5 + gain + 2 * noise)] for n, gain in gains.items()}
    theirs = {n: [*(0.5 + 2 * noise + [0.004, -0.004, 0])] for n in gains}
    found = results({"ours": ours, "theirs": theirs})
    told = comparison.differences(found, "ours", "theirs")
    verdicts = ["behind", "behind", "not told apart", "ahead", "ahead"]
    assert [difference.verdict for difference in told] == verdicts
    assert told[3].mean == pytest.approx(0.04)
    line = low_data.conclude(found, {})[0]
    assert "ahead of theirs at 100 (+4.0 ± 1.0), 250 (+5.0 ± 1.0);" in line
    assert line.endswith("ours overtakes between 25 and 100 images a class")
    (other, *_) = low_data.conclude(results({"theirs": theirs, "ours": ours}), {})
    assert other.endswith("ours overtakes between 25 and 100 images a class")


def test_one_seed_settles_nothing():
    found = results({"a": {10: [0.5], 20: [0.6]}, "b": {10: [0.1], 20: [0.7]}})
    assert "One seed tells nothing" in low_data.conclude(found, {})[0]


def test_a_failed_run_is_left_out_of_the_pairs_and_counted():
    accuracies = {"a": {10: [0.5, math.nan, 0.7]}, "b": {10: [0.4, 0.1, 0.5]}}
    found = results(accuracies)
    (told,) = comparison.differences(found, "a", "b")
    assert told.mean == pytest.approx(0.15)
    assert [*found.failed] == [Part("a", 10, 1)]


def test_equal_differences_of_few_images_settle_nothing():
    found = results({"a": {10: [0.90, 0.92]}, "b": {10: [0.89, 0.91]}})
    (told,) = comparison.differences(found, "a", "b")
    assert told.verdict == "not told apart"
    line = low_data.conclude(found, {})[0]
    assert (
        "a is not told apart from b at 10 (+1.0 in each of 2 seeds) images a class"
        in line
    )
    assert "One seed" not in line


def test_a_law_promises_no_point_that_is_not_there():
    curve = {n: [1 - 0.012 * (500 / n) ** 0.2] * 2 for n in (100, 250, 500)}
    (line,) = low_data.conclude(results({"a": curve}), {})
    assert line.endswith("less than two points of error are left at 500 images a class")


def test_the_images_of_the_next_point_are_those_of_the_law():
    errors = [0.5, 0.37, 0.33, 0.21, 0.19]
    law = fit_power_law(IMAGES, errors)
    likely, least, most = (
        math.ceil(250 * (0.19 / 0.18) ** (1 / exponent))
        for exponent in (law.exponent, law.high, law.low)
    )
    curve = {n: [1 - error] for n, error in zip(IMAGES, errors, strict=True)}
    (line,) = low_data.conclude(results({"a": curve}), {})
    assert line.endswith(
        "one point more than the 81.00 % of 250 images a class would take about "
        f"{likely:,} ({least:,} to {most:,})"
    )


def test_what_failed_is_told_with_the_curve():
    curve = {n: [1 - 0.8 * n**-0.25] * 2 for n in IMAGES}
    curve[25][1] = math.nan
    told = low_data.conclude(results({"a": curve}), {})
    assert told[0].startswith("a: 1 run failed, at 25 images a class; failed")


def test_too_few_validation_images_are_refused(monkeypatch):
    """All six of two classes are guessed right once in 64 times."""
    few = SimpleNamespace(labels=np.array([0, 1] * 3))
    monkeypatch.setattr(stability, "load_splits", lambda config: {"validation": few})
    config = default()
    config.data.name, config.data.image_size = "digits", (17, 17)
    with pytest.raises(UserError, match="6 validation images could not tell"):
        stability.check({"a": resolve(config)}, (1.0,), 1)


def test_runs_that_diverge_or_learn_nothing_are_told_by_rate():
    config = default()
    config.data.name, config.data.validation = "digits", 0.2
    configs = {"a": resolve(config)}
    nan = math.nan
    rates = {1: [0.90, 0.92], 3: [0.91, 0.91], 10: [0.1, 0.5], 30: [nan, nan]}
    found = results({"a": rates, "b": {1: [0.8, 0.8], 3: [0.7, 0.9]}}, "validation")
    lost = Part("c", 1, 0), Outcome("out of memory")
    found = Results({**found.outcomes, lost[0]: lost[1]}, "validation")
    failed = stability.failures(found, configs)
    assert failed == {
        Part("a", 10, 0): "learned nothing",
        Part("a", 30, 0): "diverged",
        Part("a", 30, 1): "diverged",
        Part("c", 1, 0): "out of memory",
    }
    first, second, third, fourth, fifth = stability.conclude(found, configs)
    assert first == (
        "a: 3 of 8 runs failed (1 learned nothing, 2 diverged): 1 of 2 at 10, 2 of 2 "
        "at 30 times the config's learning rate"
    )
    # The median of the standard deviations at 1 and 3, where no run failed.
    assert second == (
        "a: the best mean is 91.00 %, at 1; within a point of it at 1, 3 times the "
        "config's learning rate; seeds scatter by 0.7 points (standard deviation)"
    )
    assert third == "b: none of 4 runs failed"
    assert "7.1 points" in fourth
    assert fifth.startswith(
        "c: 1 of 1 runs failed (1 out of memory): 1 of 1 at 1 times"
    )


def test_a_run_has_learned_if_it_beats_guessing_on_its_own_images(monkeypatch):
    """Each seed has other validation images, and other shares of the classes."""

    def load(data):
        counts = [50, 50] if data.split_seed == 5 else [80, 20]
        return {"validation": SimpleNamespace(labels=np.repeat([0, 1], counts))}

    monkeypatch.setattr(stability, "load_splits", load)
    config = default()
    config.data.name, config.data.image_size = "digits", (18, 18)
    config.data.split_seed = 5
    found = results({"a": {1: [0.8, 0.8]}}, "validation")
    failed = stability.failures(found, {"a": resolve(config)})
    assert failed == {Part("a", 1, 1): "learned nothing"}


@pytest.mark.parametrize("kind", [low_data.LOW_DATA, stability.STABILITY])
def test_runs_of_a_study_are_trained_to_their_ends(kind):
    config = default()
    config.data.name, config.train.patience = "digits", 3
    found = kind.configure(resolve(config), 2)
    assert found.train.patience == 0
    assert found.data.test == (kind is low_data.LOW_DATA)
    if kind is stability.STABILITY:
        assert found.train.checkpoint == "last"
        assert found.optim.learning_rate == 2 * config.optim.learning_rate


def test_a_refused_run_tells_nothing_of_its_rate(tmp_path):
    config = default()
    config.data.name, config.data.validation = "digits", 0.2
    configs = {"a": resolve(config)}
    rates = {"a": {1: [0.9, 0.9], 3: [0.8, 0.9]}, "b": {1: [0.9]}}
    found = results(rates, "validation")
    refused = Outcome(REFUSED, error="too large a seed")
    parts = Part("a", 1, 1), Part("a", 3, 0), Part("b", 3, 0), Part("c", 1, 0)
    outcomes = {**found.outcomes, **dict.fromkeys(parts, refused)}
    found = Results(outcomes, "validation")
    assert not stability.failures(found, configs)
    lines = stability.conclude(found, configs)
    assert lines[0] == "a: none of 2 runs failed"
    assert lines[1].startswith("a: the best mean is 90.00 %, at 1; within a point")
    assert lines[2] == "a: 2 runs were refused, and left out: too large a seed"
    assert lines[-2] == "b: 1 run was refused, and left out: too large a seed"
    assert lines[-1] == "c: 1 run was refused, and left out: too large a seed"
    stability.draw(found, configs, tmp_path / "drawn")
    assert (tmp_path / "drawn.png").exists()
    assert report._cell(found, "b", 3) == "- (1 refused)"
    assert report._cell(found, "a", 3).endswith("% (1 refused)")


def test_a_figure_without_a_run_that_learned_says_so(tmp_path):
    config = default()
    config.data.name, config.data.validation = "digits", 0.2
    configs = {"a": resolve(config)}
    for accuracy, is_empty in ((math.nan, True), (0.9, False)):
        found = results({"a": {1: [accuracy], 3: [math.nan]}}, "validation")
        stability.draw(found, configs, tmp_path / "rates")
        svg = (tmp_path / "rates.svg").read_text()
        assert ("all runs failed" in svg) is is_empty


def test_intervals_end_where_accuracies_do_and_equal_costs_are_two_points(tmp_path):
    with figures.axes(tmp_path / "means", 1) as (axes,):
        points = (8.0, [0.9, 1.0]), (8.0, [0.5, 0.5]), (9.0, [0.5, 0.52])
        figures.draw_means(axes, points, "a", next(figures.styles(1)))
        line, ends, _ = axes.containers[0].lines
        lower, upper = (np.float64(end.get_ydata()) for end in ends)
    np.testing.assert_allclose(line.get_xydata(), [[8, 95], [8, 50], [9, 51]])
    np.testing.assert_allclose(lower, [31.47, 50, 38.29], atol=0.01)
    np.testing.assert_allclose(upper, [100, 50, 63.71], atol=0.01)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_curve_promises_no_interval_or_law_that_it_lacks(seeds, tmp_path):
    sizes = IMAGES if seeds > 1 else IMAGES[:2]
    curve = {
        n: [1 - 0.8 * n**-0.25 - 0.01 * seed for seed in range(seeds)] for n in sizes
    }
    low_data.draw(results({"a": curve}), {}, tmp_path / "curve")
    svg = (tmp_path / "curve.svg").read_text()
    assert ("power law of the error" in svg) is (seeds > 1)
    assert ("mean and 95 % interval" in svg) is (seeds > 1)
    assert ("test accuracy (%) of one seed" in svg) is (seeds == 1)
