import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybrid_jax.data.sampler import (
    SAMPLINGS,
    EvaluationOrder,
    TrainingOrder,
    host_share,
)

SIZES = st.integers(1, 60)
SEEDS = st.integers(0, 2**31 - 1)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(np.array)


def walk(order, steps):
    return np.concatenate([order(step) for step in range(steps)])


@given(SEEDS, SIZES, st.integers(1, 90))
def test_every_image_is_seen_once_an_epoch(seed, size, batch_size):
    order = TrainingOrder(np.zeros(size, int), batch_size, seed)
    row = walk(order, -(-3 * size // batch_size))
    for epoch in row[: 3 * size].reshape(3, size):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


@given(SEEDS, LABELS, st.integers(1, 30))
def test_balanced_epochs_show_classes_equally_and_images_in_turn(
    seed, labels, batch_size
):
    size, classes = len(labels), np.unique(labels)
    order = TrainingOrder(labels, batch_size, seed, "balanced")
    row = walk(order, -(-6 * size // batch_size))
    seen = np.zeros(size, int)
    for epoch in row[: 6 * size].reshape(6, size):
        counts = np.bincount(labels[epoch])[classes]
        assert np.ptp(counts) <= 1
        seen += np.bincount(epoch, minlength=size)
    for label in classes:
        assert np.ptp(seen[labels == label]) <= 1
    totals = [seen[labels == label].sum() for label in classes]
    assert np.ptp(totals) <= 1  # what a class lacks in one epoch it gets in another


@given(SEEDS, LABELS, st.integers(1, 30), st.sampled_from(sorted(SAMPLINGS)))
def test_any_step_can_be_asked_for_first(seed, labels, batch_size, sampling):
    def order():
        return TrainingOrder(labels, batch_size, seed, sampling)

    steps = [7, 0, 3, 8, 1]
    forwards = order()
    expected = {step: forwards(step) for step in range(9)}
    jumping = order()
    for step in steps:
        np.testing.assert_array_equal(jumping(step), expected[step])
        np.testing.assert_array_equal(order()(step), expected[step])


def test_epochs_and_seeds_differ_and_repeat():
    labels = np.arange(1000) % 10
    for sampling in SAMPLINGS:
        first = TrainingOrder(labels, 100, 0, sampling)
        again, other = (TrainingOrder(labels, 100, seed, sampling) for seed in (0, 1))
        np.testing.assert_array_equal(first(0), again(0))
        assert (first(0) != other(0)).any()
        assert (first(0) != first(10)).any()  # the second epoch's first
        assert first(0).dtype == np.int32


@given(SIZES, st.integers(1, 90))
def test_evaluation_counts_every_image_once(size, batch_size):
    order = EvaluationOrder(size, batch_size)
    assert len(order) == -(-size // batch_size)
    for evaluation in range(2):
        steps = range(evaluation * len(order), (evaluation + 1) * len(order))
        indices = np.stack([order(step) for step in steps])
        mask = np.stack([order.mask(step) for step in steps])
        assert indices.shape == mask.shape == (len(order), batch_size)
        np.testing.assert_array_equal(indices[mask == 1], np.arange(size))
        assert set(np.unique(mask)) <= {0.0, 1.0}
        assert ((indices >= 0) & (indices < size)).all()


@given(st.sampled_from([1, 2, 4]), st.integers(1, 20))
def test_hosts_share_a_batch_in_order(hosts, each):
    rows = np.arange(hosts * each)
    shares = [host_share(rows, host, hosts) for host in range(hosts)]
    assert {len(share) for share in shares} == {each}
    np.testing.assert_array_equal(np.concatenate(shares), rows)


def test_a_seed_has_the_same_order_in_every_version():
    """Otherwise a resumed run would see some images twice, and others never."""
    labels = np.array([0, 0, 0, 0, 0, 1])
    orders = {name: TrainingOrder(labels, 6, 3, name) for name in SAMPLINGS}
    found = {
        name: [order(t).tolist() for t in (0, 2)] for name, order in orders.items()
    }
    assert found == {
        "uniform": [[2, 5, 4, 1, 3, 0], [4, 0, 1, 2, 3, 5]],
        "balanced": [[4, 5, 5, 3, 5, 1], [5, 2, 0, 3, 5, 5]],
    }
