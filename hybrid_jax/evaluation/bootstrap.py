"""95 % intervals of measures, by resampling images or groups of images.

Source: Efron & Tibshirani 1993, An introduction to the bootstrap (percentiles); Wilson
1927 for proportions of independent images.

Shapes: N images, R = `RESAMPLES` resamples, k columns of numbers.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from hybrid_jax.evaluation.measures import MEASURES, measure
from hybrid_jax.evaluation.predictions import Predictions

RESAMPLES = 1000
NUMBERS_AT_A_TIME = 10_000_000  # weights in memory at a time
LEVEL = 0.95
Z = float(stats.norm.ppf((1 + LEVEL) / 2))


# The ends of an interval; None where there is none.
Ends = tuple[float | None, float | None]


class Estimate(NamedTuple):
    """A measure with its 95 % interval.

    Attributes:
      value: the measure of all images.
      low, high: ends of the interval; None where there is none, as in a bootstrap of a
        single image or group, or one whose draws are all equal.
    """

    value: float
    low: float | None = None
    high: float | None = None


def estimate(
    predictions: Predictions, names: Sequence[str], seed: int = 0
) -> dict[str, Estimate]:
    """Return measures of predictions with 95 % intervals.

    If predictions have groups, the bootstrap draws whole groups. Otherwise it draws
    single images, and proportions have Wilson intervals. A mean over classes has no
    interval if a class has a single image or group, see `class_units`.

    Args:
      predictions: of at least one image.
      names: rows of `MEASURES`.
      seed: seed of the draws.
    """
    resampled = [
        name
        for name in names
        if MEASURES[name].has_interval
        and (predictions.groups is not None or not MEASURES[name].counts)
    ]
    draws = _resampled(predictions, resampled, seed)
    images, found = len(predictions), {}
    units = count_units(images, predictions.groups)
    of_classes = class_units(predictions)
    fewest = int(of_classes[of_classes > 0].min())
    for name in names:
        value, row = measure(predictions, name), MEASURES[name]
        if name in draws:
            share = value if row.counts else None
            ends = interval(draws[name], fewest if row.by_class else units, share)
            found[name] = Estimate(value, *ends)
        elif row.counts:
            found[name] = Estimate(value, *proportion(value, images))
        else:
            found[name] = Estimate(value)
    return found


def proportion(share: float, units: float) -> tuple[float, float]:
    """Return the 95 % interval of a share of independent units (Wilson 1927).

    Args:
      share: need not be that of a whole number of units.
      units: number of images or groups, at least one.
    """
    scale = 1 + Z**2 / units
    middle = (share + Z**2 / (2 * units)) / scale
    half = Z / scale * math.sqrt(share * (1 - share) / units + (Z / (2 * units)) ** 2)
    low = middle - half if share > 0 else 0.0
    return float(low), float(middle + half if share < 1 else 1.0)


def accuracy_interval(right: np.ndarray, groups: np.ndarray | None) -> Ends:
    """Return the 95 % interval of an accuracy.

    Args:
      right: which images are classified correctly, bool `[N]`.
      groups: group of each image, `[N]`, which a bootstrap draws; None takes the images
        as independent.
    """
    (found,) = shares(right[:, None], np.ones((len(right), 1), bool), groups)
    return found[1:]


def shares(
    hits: np.ndarray, among: np.ndarray, groups: np.ndarray | None
) -> list[Estimate]:
    """Return k shares of images with 95 % intervals; a share of no image is NaN.

    Args:
      hits: which images each share counts, bool `[N, k]`; all of them are in `among`.
      among: which images each share is of, bool `[N, k]`.
      groups: group of each image, `[N]`, which a bootstrap draws; None takes the images
        as independent, so that the intervals are Wilson's.
    """
    images = among.sum(0)
    values = np.divide(
        hits.sum(0), images, out=np.full(len(images), np.nan), where=images > 0
    )
    if groups is None:
        return [
            Estimate(share, *proportion(share, count)) if count else Estimate(share)
            for share, count in zip(values.tolist(), images.tolist(), strict=True)
        ]
    number = np.unique(groups, return_inverse=True)[1]
    sums, _ = resampled_sums(np.concatenate([hits, among], 1), number)
    found = []
    for i, share in enumerate(values.tolist()):
        right, drawn = sums[:, i], sums[:, len(values) + i]
        draws = right[drawn > 0] / drawn[drawn > 0]
        units = count_units(int(images[i]), number[among[:, i]])
        found.append(Estimate(share, *interval(draws, units, share)))
    return found


def interval(draws: np.ndarray, units: int, share: float | None = None) -> Ends:
    """Return the 95 % interval of resampled values.

    Args:
      draws: `[R]`.
      units: number of images or groups that are drawn, for a mean over classes that of
        the class with the fewest. One tells nothing of others, so it has no interval.
      share: the share of images that is resampled; None for other measures. Where all
        draws are equal, as those of a perfect score, Wilson's interval is returned, as
        if each group were an image. Other measures have no interval then.
    """
    if units < 2:
        return None, None
    low, high = percentiles(draws)
    if low < high:
        return low, high
    return (None, None) if share is None else proportion(share, units)


def count_units(images: int, groups: np.ndarray | None) -> int:
    """Return the number of groups; without groups, that of the images."""
    return images if groups is None else len(np.unique(groups))


def class_units(predictions: Predictions) -> np.ndarray:
    """Return the number of groups that have images of each class, int64 `[C]`.

    Without groups, return the numbers of images. A class with one of them never varies
    between resamples, though its recall is least certain.
    """
    labels, groups = predictions.labels, predictions.groups
    if groups is not None:
        number = np.unique(groups, return_inverse=True)[1]
        labels = np.unique(np.stack([labels, number]), axis=1)[0]
    return np.bincount(labels, minlength=predictions.classes)


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the middle 95 % of resampled values `[R]`."""
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def resample(images: int, groups: np.ndarray | None, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, float32 `[r, N]`, `RESAMPLES` rows in all.

    Args:
      images: number of images.
      groups: group of each image, `[N]`; a resample draws as many groups as there are.
        None draws single images.
      seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    number = np.arange(images)
    if groups is not None:
        number = np.unique(groups, return_inverse=True)[1]
    units = int(number.max()) + 1
    rows = max(min(RESAMPLES, NUMBERS_AT_A_TIME // max(units, images)), 1)
    for first in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - first)
        drawn = rng.integers(0, units, (count, units))
        drawn += units * np.arange(count)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * units)
        yield counts.reshape(count, units)[:, number].astype(np.float32)


def resampled_sums(
    columns: np.ndarray, groups: np.ndarray | None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums `[R, k]` of all resamples, and their numbers of images `[R]`.

    Args:
      columns: numbers of each image, `[N, k]`.
      groups: group of each image, `[N]`; None draws single images.
      seed: seed of the draws.
    """
    numbers, sums, images = columns.astype(np.float32), [], []
    for weights in resample(len(columns), groups, seed):
        sums.append((weights @ numbers).astype(np.float64))
        images.append(weights.sum(1, dtype=np.float64))
    return np.concatenate(sums), np.concatenate(images)


def _resampled(
    predictions: Predictions, names: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Return measures `[R]` of resampled images, by name."""
    if not names:
        return {}
    columns = [MEASURES[name].columns(predictions) for name in names]
    ends = np.cumsum([part.shape[1] for part in columns])
    sums, images = resampled_sums(np.concatenate(columns, 1), predictions.groups, seed)
    parts = np.split(sums, ends[:-1], axis=1)
    return {
        name: MEASURES[name].value(part, images, column.sum(0, dtype=np.float64))
        for name, part, column in zip(names, parts, columns, strict=True)
    }
