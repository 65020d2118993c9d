import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybrid_jax.data.subsets import (
    stratified_fold,
    stratified_holdout,
    stratified_subset,
)

SEEDS = st.integers(0, 2**31 - 1)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)
FRACTIONS = st.floats(0, 1.0, exclude_min=True)


@given(SEEDS, LABELS, FRACTIONS, FRACTIONS)
def test_subsets_are_nested_and_stratified(seed, labels, one, other):
    less, more = sorted((one, other))
    small, large = (stratified_subset(labels, part, 0, seed) for part in (less, more))
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
    small, large = (
        stratified_subset(labels, 1.0, count, seed) for count in (less, more)
    )
    assert {*small} <= {*large}
    for label in np.unique(labels):
        whole = (labels == label).sum()
        assert (labels[small] == label).sum() == min(less, whole)
    assert {*stratified_subset(labels, 0.5, less, seed)} <= {
        *stratified_subset(labels, 0.5, 0, seed)
    }


@given(SEEDS, LABELS, st.integers(2, 6))
def test_folds_part_the_images_and_every_class(seed, labels, folds):
    held = [
        stratified_fold(labels, number, folds, seed) for number in range(1, folds + 1)
    ]
    assert (np.sum(held, axis=0) == 1).all()
    assert np.ptp([of.sum() for of in held]) <= 1
    for label in np.unique(labels):
        assert np.ptp([of[labels == label].sum() for of in held]) <= 1


def test_a_share_of_each_class_is_held_out():
    labels = np.repeat([0, 1, 2], [100, 50, 2])
    tested = stratified_holdout(labels, 0.2, 0)
    assert np.bincount(labels[tested]).tolist() == [20, 10, 1]
    other = stratified_holdout(labels, 0.2, 1)
    assert (tested != other).any()
    only = stratified_holdout(labels[:-1], 0.2, 0)
    assert np.bincount(labels[:-1][only], minlength=3).tolist() == [20, 10, 0]


def test_a_seed_repeats_and_another_differs():
    labels = np.arange(1000) % 7
    once, again = (stratified_subset(labels, 0.1, 0, 5) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert {*once} != {*stratified_subset(labels, 0.1, 0, 6)}


def test_a_seed_draws_the_same_images_in_every_version():
    """Otherwise older runs would be judged on images that they were trained on."""
    labels = np.arange(16) % 2
    drawn = {
        "held out": np.flatnonzero(stratified_holdout(labels, 0.5, 3)),
        "subset": stratified_subset(labels, 0.5, 0, 3),
        "fold": np.flatnonzero(stratified_fold(labels, 1, 2, 3)),
    }
    assert {name: rows.tolist() for name, rows in drawn.items()} == {
        "held out": [3, 4, 5, 6, 9, 11, 12, 14],
        "subset": [0, 2, 5, 6, 7, 9, 13, 14],
        "fold": [1, 3, 4, 6, 8, 9, 10, 15],
    }
