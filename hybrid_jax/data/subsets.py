"""Subsets of a split, stratified by class, and whole groups such as patients.

A stratified subset takes images by their rank in a random order of their class. So a
smaller subset lies inside every larger one, unlike those of scikit-learn's splitters.

Groups are assigned by scikit-learn's `StratifiedGroupKFold`, which keeps the shares of
the classes as far as groups allow; `GroupShuffleSplit` does not. Shares of images are
approximate, since a group is never divided.
"""

import fractions
import itertools
import warnings
from collections.abc import Collection, Mapping

import numpy as np

from hybrid_jax.data.names import similar_names
from hybrid_jax.data.split_notes import Expected
from hybrid_jax.errors import escape, listed, plural

# Purposes of a random order. Their orders must differ, or a subset would favor a fold.
HOLD_OUT, SUBSET, FOLD = range(3)
MAX_VALIDATION = 5000  # images that are enough to select weights
MAX_FOLDS = 20  # folds that a share of groups is made of
TOLERANCE = 0.1  # accepted relative error of a share that is made of folds


def stratified_holdout(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return which images are for testing, bool `[N]`: a share of each class.

    At least one image of each class is for testing, unless the class has only one.
    """
    counts = np.bincount(labels)
    sizes = np.clip(np.rint(fraction * counts), 1, np.maximum(counts - 1, 0))
    return class_ranks(labels, seed, HOLD_OUT) < sizes[labels]


def stratified_subset(
    labels: np.ndarray, fraction: float, per_class: int, seed: int
) -> np.ndarray:
    """Return the rows of a share of each class, at least one image, int64, ascending.

    Args:
      labels: int `[N]`.
      fraction: share of each class, above 0 and at most 1.
      per_class: largest number of images of each class; 0 is no limit.
      seed: seed of the random draw.
    """
    counts = np.bincount(labels)
    limits = np.maximum(np.ceil(fraction * counts - 1e-9), 1)
    if per_class:
        limits = np.minimum(limits, per_class)
    return np.flatnonzero(class_ranks(labels, seed, SUBSET) < limits[labels])


def apportion(
    counts: np.ndarray, share: float, most: int = MAX_VALIDATION
) -> np.ndarray:
    """Return how many images of each class make up a share of all, int64 `[classes]`.

    Each class gets at least one. The rest follows quotas by the largest remainder
    method (Hamilton), so that the total is exact.

    Args:
      counts: images of each class, `[classes]`; a class without images gets none.
      share: share of all images, from 0 to below 1.
      most: largest total, unless there are more classes.
    """
    counts = np.asarray(counts, np.int64)
    apportioned = (counts > 0).astype(np.int64)
    total = min(round(share * counts.sum()), most)
    free = counts > 0
    while free.any():
        left = max(total - int(apportioned[~free].sum()), 0)
        quotas = np.where(free, counts * (left / counts[free].sum()), 0)
        if not (few := free & (quotas < 1)).any():
            apportioned[free] = np.floor(quotas[free] + 1e-9)
            missing = left - int(apportioned[free].sum())
            order = np.argsort(apportioned - quotas, kind="stable")
            apportioned[order[free[order]][:missing]] += 1
            break
        free &= ~few
    return apportioned


def stratified_fold(
    labels: np.ndarray, number: int, folds: int, seed: int
) -> np.ndarray:
    """Return which images are in fold `number` of 1 to `folds`, bool `[N]`.

    Every image is in one fold. Two folds differ by at most one image of a class.
    """
    counts = np.bincount(labels)
    # A class starts at the fold where the previous class ended, so folds are equal.
    begun = np.cumsum(counts) - counts
    return (class_ranks(labels, seed, FOLD) + begun[labels]) % folds == number - 1


def class_ranks(labels: np.ndarray, seed: int, purpose: int) -> np.ndarray:
    """Return the rank of each image in a random order of its class, int64 `[N]`."""
    ranks = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        random = np.random.default_rng([seed, purpose, label])
        ranks[rows] = random.permutation(len(rows))
    return ranks


def group_holdout(
    labels: np.ndarray, groups: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Return which images are held out, bool `[N]`: whole groups of about a share.

    The images are divided into folds, ten for a tenth, and some folds are held out.
    If a class then lies on one side only, its smallest group that can be spared
    changes sides. A class of one group stays on one side.

    Args:
      labels: int `[N]`.
      groups: group of each image, `[N]`, of any type that can be sorted.
      share: share of the images, above 0 and below 1.
      seed: seed of the random draw.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    numbers = numbers.reshape(-1)
    # No more folds than groups, nor than the largest class has images.
    most = int(min(numbers.max() + 1, np.bincount(labels).max()))
    most = min(most, max(MAX_FOLDS, round(1 / share)))
    if most < 2:
        return np.zeros(len(labels), bool)
    part = fractions.Fraction(share).limit_denominator(most)
    part = min(max(part, fractions.Fraction(1, most)), 1 - fractions.Fraction(1, most))
    fold_index = _assign_folds(labels, numbers, part.denominator, seed)
    return cover_both_sides(_nearest_folds(fold_index, part, share), labels, numbers)


def group_fold(
    labels: np.ndarray, groups: np.ndarray, number: int, folds: int, seed: int
) -> np.ndarray:
    """Return which images are in fold `number` of 1 to `folds`, bool `[N]`.

    Every group is in one fold. Folds share each class equally, as far as groups allow.

    Raises:
      ValueError: there are more folds than groups.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    return _assign_folds(labels, numbers.reshape(-1), folds, seed) == number - 1


def groups_in_class(labels: np.ndarray, groups: np.ndarray, label: int) -> list[str]:
    """Return the names of the groups that a class has images in."""
    return [str(group) for group in np.unique(groups[labels == label])]


def shared_groups(groups: Mapping[str, np.ndarray | None]) -> list[str]:
    """Find groups that lie in two splits, such as `'p7' in train and test`.

    Args:
      groups: group of each image, `[N]`, by split; None for a split without groups.
    """
    group_sets = {
        name: {*values.tolist()}
        for name, values in groups.items()
        if values is not None
    }
    return [
        f"{escape(str(group))!r} in {one} and {other}"
        for one, other in itertools.combinations(group_sets, 2)
        for group in sorted(group_sets[one] & group_sets[other], key=str)
    ]


def groups_notes(groups: Collection[str], where: str) -> list[str]:
    """Return notes on groups that were found, and on pairs that may be the same.

    Args:
      groups: the names, each once.
      where: origin of the groups, such as a column.
    """
    count = plural(len(groups), "group")
    notes: list[str] = [
        Expected(f"{count} ({where}): images of one group are in one split")
    ]
    if pairs := similar_names(sorted(groups)):
        notes.append(
            f"groups that may be the same, and may be in two splits: {listed(pairs)}"
        )
    return notes


def shared_groups_error(found: list[str]) -> str:
    """Return the error message for groups that lie in two splits.

    Args:
      found: result of `shared_groups`.
    """
    return (
        f"{plural(len(found), 'group')} {'lies' if len(found) == 1 else 'lie'} in two "
        f"splits: {listed(found)}; keep each group in one split"
    )


def _assign_folds(
    labels: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Return the fold of each image, int `[N]`, counted from 0."""
    # Import on use: scikit-learn takes a second.
    from sklearn.model_selection import StratifiedGroupKFold

    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold_index = np.empty(len(labels), int)
    with warnings.catch_warnings():
        # scikit-learn warns of classes that have fewer images than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, rows) in enumerate(parts.split(labels, labels, groups)):
            fold_index[rows] = number
    return fold_index


def _nearest_folds(
    fold_index: np.ndarray, part: fractions.Fraction, share: float
) -> np.ndarray:
    """Return a mask of the first adjacent folds within `TOLERANCE` of a share.

    Folds of few groups differ in size: if none are that close, take the closest.
    """
    choices = [
        (fold_index - first) % part.denominator < part.numerator
        for first in range(part.denominator)
    ]
    errors = [abs(is_held_out.mean() - share) for is_held_out in choices]
    close = [i for i, error in enumerate(errors) if error <= TOLERANCE * share]
    return choices[close[0] if close else int(np.argmin(errors))]


def cover_both_sides(
    is_held_out: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Move groups so that each class lies on both sides, if it can.

    Args:
      is_held_out: which images are held out, bool `[N]`.
      labels: int `[N]`.
      groups: group of each image, `[N]`, of any type that can be sorted.

    Returns:
      Which images are held out now, bool `[N]`.
    """
    is_held_out = is_held_out.copy()
    _, groups = np.unique(groups, return_inverse=True)
    sizes = np.bincount(groups)
    for side in (True, False):
        for label in np.unique(labels):
            is_class = labels == label
            if (is_held_out[is_class] == side).any():
                continue
            group_choices = np.unique(groups[is_class])
            for group in group_choices[np.argsort(sizes[group_choices], kind="stable")]:
                moved = groups == group
                stay = labels[(is_held_out != side) & ~moved]
                if np.isin(np.unique(labels[moved]), stay).all():
                    is_held_out[moved] = side
                    break
    return is_held_out
