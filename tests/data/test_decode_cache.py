"""Decoded pixels on disk, and the cores that decode them."""

import os

import numpy as np
import pytest

from hybrid_jax.data.cores import usable_cores
from hybrid_jax.data.decode_cache import MAX_OLD_CACHES, decoded

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)


class Encoded:
    """Images that another run has decoded to the folder meanwhile."""

    shape = PIXELS.shape

    def __init__(self, place):
        self.place, self.count = place, 0

    def decode_all(self, title, out=None):
        self.count += 1
        if self.count == 1:
            decoded(self, self.place, "train", "key", title)
        if out is None:
            return PIXELS
        out[:] = PIXELS
        return out


def test_of_two_runs_that_decode_at_once_both_take_the_same_file(tmp_path):
    encoded = Encoded(tmp_path / "kept")
    found = decoded(encoded, encoded.place, "train", "key", "images")
    np.testing.assert_array_equal(found, PIXELS)
    assert isinstance(found, np.memmap)
    assert encoded.count == 2  # each once
    assert [p.name for p in encoded.place.iterdir()] == ["decoded-train-3x3x1-key"]


def test_old_pixels_of_other_sizes_are_deleted(tmp_path):
    for number in range(MAX_OLD_CACHES + 3):
        old = tmp_path / f"decoded-train-{number}x9x1-key"
        old.mkdir()
        os.utime(old, (number, number))
    (tmp_path / "decoded-test-9x9x1-key").mkdir()
    decoded(Encoded(tmp_path), tmp_path, "train", "key", "images")
    kept = {f"decoded-train-{3 + i}x9x1-key" for i in range(MAX_OLD_CACHES)}
    kept |= {"decoded-train-3x3x1-key", "decoded-test-9x9x1-key"}
    assert {path.name for path in tmp_path.iterdir()} == kept


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cores_that_are_kept_away_are_not_counted():
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
