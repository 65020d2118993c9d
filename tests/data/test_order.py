import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybrid_jax.data.order import batch_indices, padded_batches

SIZES = st.integers(1, 60)
SEEDS = st.integers(0, 2**31 - 1)


@given(SEEDS, SIZES, st.integers(1, 90))
def test_every_image_is_seen_once_an_epoch(seed, size, batch_size):
    steps = -(-3 * size // batch_size)
    row = np.concatenate(
        [batch_indices(seed, step, size, batch_size) for step in range(steps)]
    )
    epochs = row[: 3 * size].reshape(3, size)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))


def test_epochs_and_seeds_differ_and_repeat():
    first = batch_indices(0, 0, 1000, 100)
    np.testing.assert_array_equal(first, batch_indices(0, 0, 1000, 100))
    assert (first != batch_indices(1, 0, 1000, 100)).any()
    assert (first != batch_indices(0, 10, 1000, 100)).any()  # the second epoch's first
    assert first.dtype == np.int32


@given(SIZES, st.integers(1, 90))
def test_padded_batches_count_every_image_once(size, batch_size):
    indices, mask = padded_batches(size, batch_size)
    assert indices.shape == mask.shape == (-(-size // batch_size), batch_size)
    np.testing.assert_array_equal(indices[mask == 1], np.arange(size))
    assert set(np.unique(mask)) <= {0.0, 1.0}
    assert ((indices >= 0) & (indices < size)).all()
