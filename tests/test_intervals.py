"""Means over a few runs, with their intervals, in words."""

import pytest
from scipy import stats

from hybrid_jax.intervals import in_words, interval, share_interval


def test_an_interval_is_that_of_students_t():
    values = [0.91, 0.93, 0.96, 0.94]
    middle, error = 0.935, stats.sem(values)
    expected = stats.t.interval(0.95, 3, loc=middle, scale=error)
    assert interval(values) == pytest.approx(expected)
    assert share_interval(values) == pytest.approx(expected)
    half = 50 * (expected[1] - expected[0])
    assert in_words(values) == f"93.50 % ± {half:.2f}"


@pytest.mark.parametrize("values", [[0.9], [0.9, 0.9, 0.9]])
def test_one_value_and_equal_ones_have_no_interval(values):
    assert interval(values) is share_interval(values) is None
    assert in_words(values) == "90.00 %"


def test_no_share_is_below_nothing_or_above_all():
    low, high = interval([0.1, 0.5, 0.9])
    assert low < 0 < 1 < high
    assert share_interval([0.1, 0.5, 0.9]) == (0, 1)


def test_two_values_are_shown():
    assert in_words([0.356, 0.4385]) == "39.73 % (35.60, 43.85)"
