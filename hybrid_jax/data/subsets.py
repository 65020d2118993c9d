"""Parts of a split, each with its share of every class, by a seed.

All go by one thing: the place of an image in a seeded row of its class's images. So a
smaller subset lies inside every larger one.
"""

import numpy as np

# Rows of different purposes must differ, or a subset would favor a fold.
HOLD_OUT, SUBSET, FOLD = range(3)
MOST = 5000  # images that are enough to choose by


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


def allot(counts: np.ndarray, share: float, most: int = MOST) -> np.ndarray:
    """How many images of each class make a share of all, int64 `[classes]`.

    Each class has one at least. The others follow their quotas, by the method of the
    largest remainder (Hamilton), so that the total is right.

    Args:
      counts: images of each class, `[classes]`; a class of none gets none.
      share: of all images, from 0 to below 1.
      most: images in all, where there are no more classes.
    """
    counts = np.asarray(counts, np.int64)
    allotted = (counts > 0).astype(np.int64)
    total = min(round(share * counts.sum()), most)
    free = counts > 0
    while free.any():
        left = max(total - int(allotted[~free].sum()), 0)
        quotas = np.where(free, counts * (left / counts[free].sum()), 0)
        if not (few := free & (quotas < 1)).any():
            allotted[free] = np.floor(quotas[free] + 1e-9)
            missing = left - int(allotted[free].sum())
            order = np.argsort(allotted - quotas, kind="stable")
            allotted[order[free[order]][:missing]] += 1
            break
        free &= ~few
    return allotted


def fold(labels: np.ndarray, number: int, folds: int, seed: int) -> np.ndarray:
    """Which images are those of fold `number` of 1 to `folds`, bool `[N]`.

    Every image is in one fold. A class's numbers in two folds differ by one image at
    most.
    """
    counts = np.bincount(labels)
    # Each class begins where the one before it ended, so that folds have one size.
    begun = np.cumsum(counts) - counts
    return (ranks(labels, seed, FOLD) + begun[labels]) % folds == number - 1


def ranks(labels: np.ndarray, seed: int, purpose: int) -> np.ndarray:
    """The place of each image in its class's row, int64 `[N]`, counted from 0."""
    places = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        random = np.random.default_rng([seed, purpose, label])
        places[rows] = random.permutation(len(rows))
    return places
