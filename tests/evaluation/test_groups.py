"""Images of one group are no independent witnesses: intervals, p-values, figures."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from hybrid_jax.evaluation import figures, report, selective
from hybrid_jax.evaluation.comparison import SIGN_FLIP, compare, sign_flip_p
from hybrid_jax.evaluation.evaluate import Evaluation
from hybrid_jax.evaluation.predictions import Predictions
from hybrid_jax.reports.comparison import against_first


def patients(right, images=50, confidence=0.9, has_groups=True):
    """Predictions of two classes, right on all images of some patients, else on none.

    Args:
      right: whether each patient's images are predicted correctly, bool `[patients]`.
      images: number of images of each patient.
      confidence: of each patient's images.
      has_groups: whether it is known which image is whose.
    """
    groups = np.repeat(np.arange(len(right)), images)
    labels = np.arange(len(groups)) % 2
    own = np.where(right, confidence, 1 - np.asarray(confidence))[groups][:, None]
    log_probabilities = np.log(np.where(np.eye(2)[labels] > 0, own, 1 - own))
    return Predictions(log_probabilities, labels, groups if has_groups else None)


def band_of(predictions):
    """Return the height of the band in the figure of risk against coverage, in %."""
    axes = Figure().subplots()
    found = Evaluation("", "test", ("a", "b"), [], predictions)
    figures.FIGURES["coverage"].draw([axes], found)
    (band,) = axes.collections
    return np.ptp(band.get_paths()[0].vertices[:, 1])


def test_the_risk_of_few_patients_is_less_certain_than_that_of_many_images():
    right, confidence = np.arange(20) > 1, np.linspace(0.6, 0.9, 20)
    grouped = patients(right, 50, confidence)
    alone = patients(right, 50, confidence, has_groups=False)
    least = [0.5, 0.61]  # of all patients, and without the first of two errors
    wide, narrow = (selective.risks(each, least) for each in (grouped, alone))
    for risk, other, expected in zip(wide, narrow, (2 / 20, 1 / 19), strict=True):
        assert risk.value == other.value == pytest.approx(expected)
        assert risk.low == 0
        assert risk.high - risk.low > 3 * (other.high - other.low)
    assert band_of(grouped) > 1.5 * band_of(alone)


def test_one_patient_tells_no_risk(capsys):
    one = patients(np.array([True]))
    assert selective.risks(one, [0.5]) == [(0, None, None)]
    answered = selective.risk_coverage(one).answered(0.01)
    said = report._answered_in_words(0.01, answered, one)
    assert said.endswith(": 0 of them are wrong")
    axes = Figure().subplots()
    found = Evaluation("", "test", ("a", "b"), [], one)
    figures.FIGURES["coverage"].draw([axes], found)


def test_six_patients_tell_two_models_apart_by_six_differences():
    first, second = (patients(np.full(6, is_right)) for is_right in (True, False))
    found = compare(first, second)
    assert found.test == SIGN_FLIP
    assert found.p_value == pytest.approx(2 / 2**6)
    assert "sign-flip test over groups p = 0.0312" in report.compared(found)
    # Either model's groups are enough: they are of the same images.
    ungrouped = Predictions(first.log_probabilities, first.labels)
    assert compare(ungrouped, second) == found
    independent = compare(
        ungrouped, Predictions(second.log_probabilities, second.labels)
    )
    assert "McNemar p = " in report.compared(independent)
    assert independent.p_value < 1e-80


def test_the_page_of_several_runs_tests_over_groups():
    runs = [
        SimpleNamespace(
            workdir=f"runs/{is_right}",
            evaluation=Evaluation(
                "", "test", ("a", "b"), ["n"] * 300, patients(np.full(6, is_right))
            ),
        )
        for is_right in (True, False)
    ]
    ((_, words),) = against_first(runs)
    assert "-100.00 points" in words
    assert "sign-flip test over groups p = 0.0312" in words


@pytest.mark.parametrize("groups", [2, 5, 9, 12])
def test_the_sign_flip_test_is_that_of_scipy(groups):
    rng = np.random.default_rng(groups)
    group, difference = rng.integers(0, groups, 80), rng.integers(-1, 2, 80)
    sums = np.bincount(group, difference)
    expected = stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    names = np.array([f"patient {number}" for number in group])
    assert sign_flip_p(difference, names) == pytest.approx(expected.pvalue)


def test_with_an_image_a_group_it_is_mcnemars_test():
    difference = np.repeat([1, 0, -1], [20, 30, 9])
    expected = stats.binomtest(9, 29).pvalue
    assert sign_flip_p(difference, np.arange(59)) == pytest.approx(expected)
    assert sign_flip_p(np.zeros(4, int), np.arange(4)) == 1
    assert sign_flip_p(np.ones(4, int), np.zeros(4)) == 1  # one group tells nothing
