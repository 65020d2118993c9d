"""Parts of a split, each with its share of every class, by a seed.

All go by one thing: the place of an image in a seeded row of its class's images. So a
smaller subset lies inside every larger one.
"""

import numpy as np

from hybrid_jax.errors import UserError

# Rows of different purposes must differ, or a subset would favor a fold.
HOLD_OUT, SUBSET, FOLD = range(3)


def hold_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which images are for testing, bool `[N]`: a share of each class, one at least.

    A class's only image is for training.
    """
    counts = np.bincount(labels)
    tested = np.clip(np.rint(fraction * counts), 1, np.maximum(counts - 1, 0))
    return ranks(labels, seed, HOLD_OUT) < tested[labels]


def subset(labels: np.ndarray, fraction: float, per_class: int, seed: int):
    """Rows int64 of a share of each class, one image at least, in their old order.

    Args:
      labels: `[N]`.
      fraction: from above 0 to 1.
      per_class: images of each class at most; 0 is no limit.
      seed: of the choice.
    """
    counts = np.bincount(labels)
    kept = np.ceil(fraction * counts - 1e-9)
    if per_class:
        kept = np.minimum(kept, per_class)
    return np.flatnonzero(ranks(labels, seed, SUBSET) < kept[labels])


def fold(
    labels: np.ndarray, number: int, folds: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and rows of fold `number` of 1 to `folds` to test on.

    Every image is tested on in one fold, and a class's numbers in two folds differ by
    one image at most.

    Raises:
      UserError: a class has fewer images than there are folds.
    """
    counts = np.bincount(labels)
    least = counts[counts > 0].min()
    if least < folds:
        raise UserError(
            f"config.data.fold={number}/{folds}: a class has only {least} images to "
            "part; take fewer folds"
        )
    # Each class begins where the one before it ended, so that folds have one size.
    begun = np.cumsum(counts) - counts
    tested = (ranks(labels, seed, FOLD) + begun[labels]) % folds == number - 1
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def ranks(labels: np.ndarray, seed: int, purpose: int) -> np.ndarray:
    """The place of each image in its class's row, int64 `[N]`, counted from 0."""
    places = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        random = np.random.default_rng([seed, purpose, label])
        places[rows] = random.permutation(len(rows))
    return places
