import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_jax.data.subsets import fold, hold_out, subset
from hybrid_jax.errors import UserError

SEEDS = st.integers(0, 2**31 - 1)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)
FRACTIONS = st.floats(0.001, 1.0)


@given(SEEDS, LABELS, FRACTIONS, FRACTIONS)
def test_subsets_are_nested_and_stratified(seed, labels, one, other):
    less, more = sorted((one, other))
    small, large = (subset(labels, part, 0, seed) for part in (less, more))
    assert {*small} <= {*large}
    assert (np.diff(small) > 0).all()
    for label in np.unique(labels):
        kept, whole = (labels[small] == label).sum(), (labels == label).sum()
        assert kept >= 1
        assert kept - 1 < less * whole + 1e-6
        assert kept + 1e-6 >= less * whole


@given(SEEDS, LABELS, st.integers(1, 50), st.integers(1, 50))
def test_so_many_images_of_each_class_are_nested_too(seed, labels, one, other):
    less, more = sorted((one, other))
    small, large = (subset(labels, 1.0, count, seed) for count in (less, more))
    assert {*small} <= {*large}
    for label in np.unique(labels):
        whole = (labels == label).sum()
        assert (labels[small] == label).sum() == min(less, whole)
    assert {*subset(labels, 0.5, less, seed)} <= {*subset(labels, 0.5, 0, seed)}


@given(SEEDS, LABELS, st.integers(2, 6))
def test_folds_part_the_images_and_every_class(seed, labels, folds):
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    if counts.min() < folds:
        with pytest.raises(UserError, match=r"fold=1/\d: .* take fewer folds"):
            fold(labels, 1, folds, seed)
        return
    tested = []
    for number in range(1, folds + 1):
        train, test = fold(labels, number, folds, seed)
        assert sorted([*train, *test]) == list(range(len(labels)))
        tested.append(test)
    assert sorted(np.concatenate(tested)) == list(range(len(labels)))
    assert np.ptp([len(test) for test in tested]) <= 1
    for label in np.unique(labels):
        assert np.ptp([(labels[test] == label).sum() for test in tested]) <= 1


def test_a_share_of_each_class_is_held_out():
    labels = np.repeat([0, 1, 2], [100, 50, 2])
    tested = hold_out(labels, 0.2, 0)
    assert np.bincount(labels[tested]).tolist() == [20, 10, 1]
    other = hold_out(labels, 0.2, 1)
    assert (tested != other).any()
    only = hold_out(labels[:-1], 0.2, 0)
    assert np.bincount(labels[:-1][only], minlength=3).tolist() == [20, 10, 0]


def test_a_seed_repeats_and_another_differs():
    labels = np.arange(1000) % 7
    once, again = (subset(labels, 0.1, 0, 5) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert {*once} != {*subset(labels, 0.1, 0, 6)}
