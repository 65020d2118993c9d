"""Find exact and near duplicates of images.

Exact copies have the same decoded pixels. Near copies are searched for in three steps,
on gray thumbnails of 32x32 pixels without their mean:

1. `candidates` finds the few images that are most similar to each image.
2. `alignment` finds how an image is shifted and zoomed to align with the other.
3. `alignment` measures how similar both are where they overlap.

The table is from benchmarks/near_duplicates.py. It has the share of changed copies of
200 images, or of all 120 tiles, that are paired with their own original, almost surely,
in percent:

    originals        JPEG  75   50   x 0.5    2  dark  faded  tint  mirror
    digits at 32 px       100  100     100  100   100    100   100     100
    Fashion-MNIST, 28 px  100  100       2  100   100    100   100     100
    digits, 8 px          100   36       0   73   100    100   100     100
    photos, 64 px          58   56      67   69    58     58    64      69
    those not faint        87   84      95   95    89     89    94      96

    originals        shift  6   12   crop 90   80   frame 5   10   several
    digits at 32 px        92  100       100   48        52   80        98
    Fashion-MNIST, 28 px   66   79        92   40        34   10        55
    digits, 8 px          100   71        81   10        31   31         0
    photos, 64 px          63   66        63   43         8    2        54
    those not faint        92   91        89   66        47   37        81

No two of the 1,797 digits and no two of the 120 tiles were called copies. Most tiles
that are not found show sky; the row "those not faint" has the 79 tiles whose levels
have a standard deviation above 8. A small image of half the size has lost the details
that tell it from others. Copies in frames are rarely found if all images of a split
have the same frame, as here, because the frame makes them alike.

Found in other data sets, almost surely:

- Fashion-MNIST: 49 of the 10,000 test images. Of the 40 pairs that were drawn, about 25
  show one garment by eye, at times in two shades. The others, mostly below 0.95, show
  two garments of one cut.
- Tiny ImageNet, with 100 training images a class: no near copies across the splits, but
  two validation images that have the same pixels as training images of another class
  (val_5819 and val_9920).
- Thumbnails of whole sets taken as one split: none in the digits at 8 px; 14 pairs in
  the 2,800 images of RSSCN7, all true by eye; 5 in the 6,000 images of plankton, which
  are bars and rings that differ by eye: simple shapes are taken for copies.

Pairs that are called probable are mostly false in such sets (9 of 11 in RSSCN7).

Not found are copies that are turned, cropped by more than a quarter or shifted by more
than a fifth, and copies of images without contrast.
"""

from typing import NamedTuple

import numpy as np

from hybrid_jax.inspection import alignment, candidates
from hybrid_jax.inspection.candidates import Candidates
from hybrid_jax.inspection.scan import ScannedImages

# Bands, the surest first, and their least similarity.
SURE, PROBABLE, POSSIBLE = "almost surely", "probably", "possibly"
BANDS = {SURE: 0.9, PROBABLE: 0.8, POSSIBLE: 0.7}
MIN_SIMILARITY = BANDS[POSSIBLE]
SAME, BY_FEATURES = "same pixels", "by features"
MIN_CONTRAST = 1.0  # least contrast that can be compared, in stored levels
NOISE = 0.5  # noise of a pixel by rounding and compression, in stored levels
SAMPLE = 1000  # images that sample the distances of different images
DENSE_QUANTILE = 0.05  # quantile of these distances that bounds them from below
MIN_DISTANCE = 0.02  # least distance of different images
MIN_IMAGES = 20  # fewer images cannot sample distances
DEFAULT_DISTANCE = 0.3  # distance of different images if there are fewer


class Pair(NamedTuple):
    """Two images that are equal, or nearly.

    Attributes:
      first: number of the image that comes first in the data set, and so in an earlier
        split if the splits differ.
      second: number of the other image.
      similarity: 1 for equal images, 0 for images that differ as much as each differs
        from its sixth most similar image.
      change: how `first` was changed, in words; empty if no change is visible.
      band: `SAME`, one of `BANDS`, or `BY_FEATURES`.
    """

    first: int
    second: int
    similarity: float
    change: str = ""
    band: str = SAME

    @property
    def summary(self) -> str:
        """The similarity, and the change of the second image if there is any."""
        words = [f"likeness {self.similarity:.2f}", *filter(None, [self.change])]
        return ", ".join(words)


class Copies(NamedTuple):
    """Pairs of copies between two splits and within a split, the most similar first."""

    between_splits: list[Pair]
    within_split: list[Pair]


def find_exact(images: ScannedImages) -> Copies:
    """Find images with the same pixels, each paired with the first of each split."""
    between_splits, within_split = [], []
    order = np.argsort(images.fingerprints.pixels, kind="stable")
    digests = images.fingerprints.pixels[order]
    starts = np.flatnonzero(np.diff(digests, prepend=~digests[:1]))
    for group in np.split(order, starts[1:]):
        split_index = images.split_index[group]
        for split in np.unique(split_index):
            same, later = group[split_index == split], group[split_index > split]
            within_split += [Pair(int(same[0]), int(o), 1.0) for o in same[1:]]
            between_splits += [Pair(int(same[0]), int(o), 1.0) for o in later]
    return Copies(sorted(between_splits), sorted(within_split))


def find_near(images: ScannedImages) -> Copies:
    """Find near copies that are not exact copies, the most similar first."""
    # One image represents its exact copies of a split.
    pixels = images.fingerprints.pixels
    _, rows = np.unique(
        np.stack([pixels, images.split_index.astype(np.uint64)]),
        axis=1,
        return_index=True,
    )
    rows = np.sort(rows)
    rows = rows[contrast(images)[rows] >= MIN_CONTRAST]
    if len(rows) < 2:
        return Copies([], [])
    found, similarity = _align_and_compare(images, rows)
    pairs = []
    for index in np.argsort(-similarity, kind="stable"):
        if similarity[index] < MIN_SIMILARITY:
            break
        pair = _pair(found, index, rows, float(similarity[index]))
        if pixels[pair.first] != pixels[pair.second]:
            pairs.append(pair)
    return group_by_split(pairs, images.split_index)


def group_by_split(pairs: list[Pair], split_index: np.ndarray) -> Copies:
    """Group pairs by whether their images are of two splits or of one.

    Args:
      pairs: the most similar first.
      split_index: split of each image, `[N]`.
    """
    split: dict[bool, list[Pair]] = {True: [], False: []}
    for pair in pairs:
        split[bool(split_index[pair.first] != split_index[pair.second])].append(pair)
    return Copies(between_splits=split[True], within_split=split[False])


def contrast(images: ScannedImages) -> np.ndarray:
    """Return the standard deviation of each thumbnail, `[N]`, in stored levels."""
    return images.fingerprints.contrast / _level_size(images)


def _level_size(images: ScannedImages) -> np.ndarray:
    """Return the size of a stored level out of 256, `[N]`: smaller for 16 bits."""
    deep = [info.bits > 8 for info in images.infos]
    return np.where(deep, 1 / 256, 1.0)


def _align_and_compare(
    images: ScannedImages, rows: np.ndarray
) -> tuple[Candidates, np.ndarray]:
    """Align as many pairs as there are images, and return the similarity of each.

    The similarity says how much closer two images are to each other than to others. It
    uses the ratio of distances by which Lowe (2004) recognizes matches, as in the local
    scaling of Zelnik-Manor and Perona (2004).
    """
    thumbnails = images.fingerprints.thumbnails[rows]
    noise = NOISE * _level_size(images)[rows]
    all_pairs = candidates.find(thumbnails, images.split_index[rows])

    def distance(
        pairs: Candidates, steps: int, fine: bool, title: str = ""
    ) -> tuple[Candidates, np.ndarray]:
        found = alignment.compare(thumbnails, noise, pairs, steps, fine, title)
        return found[0], 1 - found[1]

    all_pairs, rough = distance(all_pairs, 4, False, "aligning images")
    chosen = np.argsort(rough, kind="stable")[: len(rows)]
    pairs, distances = distance(all_pairs.take(chosen), 3, True, "comparing copies")
    is_likely = distances < 1 - MIN_SIMILARITY
    pairs, distances = pairs.take(is_likely), distances[is_likely]
    # Distances of other images, for these images and a sample of all.
    sample = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
    needed = np.unique(np.concatenate([pairs.image, pairs.other, sample]))
    if len(rows) < MIN_IMAGES:
        return pairs, 1 - distances / DEFAULT_DISTANCE
    neighbor_distance = np.full(len(rows), np.nan, np.float32)
    _, neighbor_distance[needed] = distance(
        _last_candidates(all_pairs, needed), 3, True
    )
    least = max(
        MIN_DISTANCE, float(np.quantile(neighbor_distance[sample], DENSE_QUANTILE))
    )
    neighbor_distance = np.maximum(neighbor_distance, least)
    scale = np.sqrt(neighbor_distance[pairs.image] * neighbor_distance[pairs.other])
    return pairs, 1 - distances / scale


def _last_candidates(found: Candidates, needed: np.ndarray) -> Candidates:
    """Return the pair of each image with the last of its nearest candidates."""
    image = np.concatenate([found.image, found.other])
    pair = np.tile(np.arange(len(found.image)), 2)
    order = np.lexsort((-found.similarity[pair], image))
    image, pair = image[order], pair[order]
    begin = np.searchsorted(image, needed)
    end = np.searchsorted(image, needed, side="right")
    return found.take(pair[np.minimum(begin + candidates.CANDIDATES, end) - 1])


def _pair(found: Candidates, index: int, rows: np.ndarray, similarity: float) -> Pair:
    image, other = int(rows[found.image[index]]), int(rows[found.other[index]])
    mirrored = bool(found.mirrored[index])
    down, right, zoom = (float(value) for value in found.start[index])
    if image > other:  # invert the placement, since the change is that of the first
        zoom, down, right = -zoom, -down * np.exp(-zoom), -right * np.exp(-zoom)
        right = -right if mirrored else right
    change = alignment.placement_text(mirrored, down, right, zoom)
    band = next(band for band, least in BANDS.items() if similarity >= least)
    return Pair(min(image, other), max(image, other), similarity, change, band)
