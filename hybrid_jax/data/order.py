"""Which images make batch `t`: a pure function of the seed and `t`.

Training walks an endless row of epochs, each a fresh permutation of the split, and
batch `t` is the `t`-th piece of that row. So every image is seen once an epoch whatever
the batch size, and resuming needs no state but the step.
"""

import functools

import numpy as np


def batch_indices(seed: int, step: int, size: int, batch_size: int) -> np.ndarray:
    """Indices int32 `[batch_size]` of the images of a step, counted from 0."""
    position = step * batch_size
    pieces, missing = [], batch_size
    while missing:
        epoch, start = divmod(position, size)
        piece = _permutation(seed, epoch, size)[start : start + missing]
        pieces.append(piece)
        position, missing = position + len(piece), missing - len(piece)
    return np.concatenate(pieces)


def padded_batches(size: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every image once, in order, for evaluation.

    Returns:
      Indices int32 and mask float32, both `[batches, batch_size]`; the last batch is
      filled up with image 0 under a mask of 0.
    """
    batches = -(-size // batch_size)
    indices = np.arange(batches * batch_size, dtype=np.int32)
    mask = (indices < size).astype(np.float32)
    indices = np.where(indices < size, indices, 0)
    shape = (batches, batch_size)
    return indices.reshape(shape).astype(np.int32), mask.reshape(shape)


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size).astype(np.int32)
