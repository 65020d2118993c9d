"""Splits that keep what belongs together on one side: a patient, a slide, a place.

Groups are parted by scikit-learn's `StratifiedGroupKFold`, which keeps the shares of
the classes as far as groups allow; `GroupShuffleSplit` would not. Shares of images are
approximate, since a group goes whole.
"""

import fractions
import itertools
import warnings
from collections.abc import Mapping

import numpy as np

from hybrid_jax.errors import counted, shown

MOST_FOLDS = 20  # of which a share takes some
NEAR = 0.1  # of a share that folds may miss
NAMED_AT_MOST = 5


def hold_out(
    labels: np.ndarray, groups: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Which images are held out, bool `[N]`: whole groups, about a share of each class.

    The images are parted into folds, a tenth into ten, and some folds are held out.
    Where that leaves a class on one side alone, its smallest group that can be spared
    changes sides. A class of one group stays on one side.

    Args:
      labels: int `[N]`.
      groups: of the images, anything that sorts, `[N]`.
      share: above 0 and below 1.
      seed: of the choice.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    numbers = numbers.reshape(-1)
    # No more folds than groups, nor than the largest class has images.
    most = int(min(numbers.max() + 1, np.bincount(labels).max()))
    most = min(most, max(MOST_FOLDS, round(1 / share)))
    if most < 2:
        return np.zeros(len(labels), bool)
    part = fractions.Fraction(share).limit_denominator(most)
    part = min(max(part, fractions.Fraction(1, most)), 1 - fractions.Fraction(1, most))
    parted = _parted(labels, numbers, part.denominator, seed)
    held = _nearest(parted, part, share)
    _fill(held, labels, numbers)
    return held


def fold(
    labels: np.ndarray, groups: np.ndarray, number: int, folds: int, seed: int
) -> np.ndarray:
    """Which images are those of fold `number` of 1 to `folds`, bool `[N]`.

    Every group is in one fold, and classes have their shares as far as groups allow.

    Raises:
      ValueError: there are more folds than groups.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    return _parted(labels, numbers.reshape(-1), folds, seed) == number - 1


def of_class(labels: np.ndarray, groups: np.ndarray, label: int) -> list[str]:
    """The names of the groups that a class has images in."""
    return [str(group) for group in np.unique(groups[labels == label])]


def shared(groups: Mapping[str, np.ndarray | None]) -> list[str]:
    """Groups that lie in two splits, in words, such as `'p7' in train and test`.

    Args:
      groups: of the images of each split; None where they have none.
    """
    known = {name: {*of.tolist()} for name, of in groups.items() if of is not None}
    return [
        f"{shown(str(group))!r} in {one} and {other}"
        for one, other in itertools.combinations(known, 2)
        for group in sorted(known[one] & known[other], key=str)
    ]


def note(count: int, where: str) -> str:
    """What is said of groups that were found.

    Args:
      count: how many they are.
      where: they come from, such as a column.
    """
    return f"{counted(count, 'group')} ({where}): images of one group are in one split"


def refusal(found: list[str]) -> str:
    """What is said of groups that lie in two splits.

    Args:
      found: of `shared`.
    """
    more = len(found) - NAMED_AT_MOST
    return (
        f"{counted(len(found), 'group')} {'lies' if len(found) == 1 else 'lie'} in two "
        f"splits: {', '.join(found[:NAMED_AT_MOST])}"
        + (f", and {more:,} more" if more > 0 else "")
        + "; keep each in one of them"
    )


def _parted(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int):
    """The fold of each image, int `[N]`, counted from 0."""
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second

    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parted = np.empty(len(labels), int)
    with warnings.catch_warnings():
        # It warns of classes that have fewer images than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, rows) in enumerate(parts.split(labels, labels, groups)):
            parted[rows] = number
    return parted


def _nearest(parted: np.ndarray, part: fractions.Fraction, share: float) -> np.ndarray:
    """The first folds in a row that are near enough to a share, or the nearest ones.

    Where groups are few, folds differ in size.
    """
    folds, best = part.denominator, None
    for first in range(folds):
        held = (parted - first) % folds < part.numerator
        missed = abs(held.mean() - share)
        if best is None or missed < best[0]:
            best = missed, held
        if missed <= NEAR * share:
            return held
    return best[1]


def _fill(held: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> None:
    """Moves groups, in place, until each class lies on both sides, where it can."""
    sizes = np.bincount(groups)
    for side in (True, False):
        for label in np.unique(labels):
            mine = labels == label
            if (held[mine] == side).any():
                continue
            candidates = np.unique(groups[mine])
            for group in candidates[np.argsort(sizes[candidates], kind="stable")]:
                moved = groups == group
                stay = labels[(held != side) & ~moved]
                if np.isin(np.unique(labels[moved]), stay).all():
                    held[moved] = side
                    break
