"""Images that occur more than once, as they are or changed.

Exact copies have the same decoded pixels. Near copies are searched for in three steps,
on gray thumbnails of 32x32 pixels without their mean: every image's few most alike
others (`candidates`), how each is shifted and zoomed to lie over the other, and how
alike they are where they overlap (`alignment`).

Measured by benchmarks/near_duplicates.py: how many changed copies of 200 images, or of
all 120 tiles, are paired with their own original, almost surely, in percent.

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

No two of the 1,797 digits and no two of the 120 tiles were called copies. Most of the
tiles that are not found show sky: not faint are 79 whose levels have a standard
deviation above 8. A small image of half the size has lost the details that tell it from
others. Copies in frames are hardly found where all images of a split have the same
frame, as here, since they are alike then.

What was found elsewhere, almost surely: in Fashion-MNIST, 49 of the 10,000 test images;
of the 40 pairs that are drawn some 25 show one garment by eye, at times in two shades,
and the others, mostly below 0.95, two of one cut. In Tiny ImageNet, with 100 training
images a class, no near copies across the splits, but two validation images that are
training images of another class to the pixel (val_5819 and val_9920). On thumbnails of
whole sets taken as one split: none in the digits at 8 px. 14 pairs of the 2,800 of
RSSCN7, all true by eye. 5 of the 6,000 of plankton, bars and rings that by eye are
different ones: simple shapes are taken for copies. What is called probable is mostly
false in such sets (9 of 11 in RSSCN7).

Copies that are turned, cropped by more than a quarter or shifted by more than a fifth
are not found, nor those of images without contrast.
"""

from typing import NamedTuple

import numpy as np

from hybrid_jax.inspection import alignment, candidates
from hybrid_jax.inspection.scan import Images

# Bands, the surest first, and their least likeness: see `Pair`.
SURE, PROBABLE, POSSIBLE = "almost surely", "probably", "possibly"
BANDS = {SURE: 0.9, PROBABLE: 0.8, POSSIBLE: 0.7}
LEAST = BANDS[POSSIBLE]
SAME, BY_FEATURES = "same pixels", "by features"
FLAT = 1.0  # stored levels of contrast that a comparison needs at least
NOISE = 0.5  # stored levels of a pixel, by rounding and compression
SAMPLE = 1000  # images that tell how alike different ones are
DENSEST = 0.05  # the share of them that have the nearest neighbors
NEAREST = 0.02  # different images differ by so much at least
FEW = 20  # images, of which one cannot tell how alike different ones are
USUAL = 0.3  # how much they differ then


class Pair(NamedTuple):
    """Two images that are the same, or nearly.

    Attributes:
      first: the earlier one of the data set: of two splits that of the first.
      second: the other one.
      likeness: 1 for equal ones, 0 for those that differ as much as either does from
        its sixth most alike other image.
      change: what was done to the first, in words; empty if nothing is seen of it.
      band: `SAME`, how sure it is that they are copies, or `BY_FEATURES`.
    """

    first: int
    second: int
    likeness: float
    change: str = ""
    band: str = SAME

    @property
    def described(self) -> str:
        """The likeness, and the change if there is any."""
        return ", ".join([f"{self.likeness:.2f}", *filter(None, [self.change])])


class Copies(NamedTuple):
    """Pairs across two splits, and within a split, the most alike first."""

    across: list[Pair]
    within: list[Pair]


def exact(images: Images) -> Copies:
    """Images with the same pixels, each beside the first of its kind."""
    across, within = [], []
    order = np.argsort(images.prints.pixels, kind="stable")
    digests = images.prints.pixels[order]
    starts = np.flatnonzero(np.diff(digests, prepend=~digests[:1]))
    for group in np.split(order, starts[1:]):
        of_split = images.of_split[group]
        for split in np.unique(of_split):
            same = group[of_split == split]
            within += [Pair(int(same[0]), int(o), 1.0) for o in same[1:]]
        across += [
            Pair(int(group[0]), int(other), 1.0)
            for other in group[of_split != of_split[:1]]
        ]
    return Copies(sorted(across), sorted(within))


def near(images: Images) -> Copies:
    """Images that look the same and are no exact copies, the most alike pairs first."""
    # One image stands for its exact copies: a training image, where one of them is.
    _, rows = np.unique(images.prints.pixels, return_index=True)
    rows = np.sort(rows)
    rows = rows[contrast(images)[rows] >= FLAT]
    if len(rows) < 2:
        return Copies([], [])
    found, likeness = _most_alike(images, rows)
    pairs = []
    for place in np.argsort(-likeness, kind="stable"):
        if likeness[place] < LEAST:
            break
        pairs.append(_pair(found, place, rows, float(likeness[place])))
    return divided(pairs, images.of_split)


def divided(pairs: list[Pair], of_split: np.ndarray) -> Copies:
    """Pairs by whether their images are of two splits, `[N]`, or of one."""
    split: dict[bool, list[Pair]] = {True: [], False: []}
    for pair in pairs:
        split[bool(of_split[pair.first] != of_split[pair.second])].append(pair)
    return Copies(across=split[True], within=split[False])


def contrast(images: Images) -> np.ndarray:
    """Standard deviation of each thumbnail, `[N]`, in stored levels."""
    return images.prints.contrast / _level(images)


def _level(images: Images) -> np.ndarray:
    """What one stored level of each image is of 256: less in 16 bits, `[N]`."""
    deep = [facts.gray and facts.peak > 255 for facts in images.facts]
    return np.where(deep, 1 / 256, 1.0)


def _most_alike(images: Images, rows: np.ndarray) -> tuple:
    """As many pairs as there are images, aligned, and the likeness of each.

    A likeness is how much closer two images are than others are to them: the ratio of
    distances by which Lowe (2004) tells matches, as in the local scaling of
    Zelnik-Manor and Perona (2004).
    """
    thumbnails = images.prints.thumbnails[rows]
    noise = NOISE * _level(images)[rows]
    everything = candidates.find(thumbnails, images.of_split[rows])

    def distance(pairs, steps, fine: bool, title: str = ""):
        found = alignment.compare(thumbnails, noise, pairs, steps, fine, title)
        return found[0], 1 - found[1]

    everything, rough = distance(everything, 4, False, "aligning images")
    chosen = np.argsort(rough, kind="stable")[: len(rows)]
    pairs, apart = distance(everything.take(chosen), 3, True, "comparing copies")
    likely = apart < 1 - LEAST
    pairs, apart = pairs.take(likely), apart[likely]
    # How far others are: of these images, and of a sample of all.
    sample = np.random.default_rng(0).permutation(len(rows))[:SAMPLE]
    asked = np.unique(np.concatenate([pairs.image, pairs.other, sample]))
    if len(rows) < FEW:
        return pairs, 1 - apart / USUAL
    usual = np.full(len(rows), np.nan, np.float32)
    _, usual[asked] = distance(_farthest(everything, asked), 3, True)
    least = max(NEAREST, float(np.quantile(usual[sample], DENSEST)))
    usual = np.maximum(usual, least)
    scale = np.sqrt(usual[pairs.image] * usual[pairs.other])
    return pairs, 1 - apart / scale


def _farthest(found: candidates.Candidates, asked: np.ndarray):
    """For each of some images its pair with the last of its nearest others."""
    image = np.concatenate([found.image, found.other])
    pair = np.tile(np.arange(len(found.image)), 2)
    order = np.lexsort((-found.likeness[pair], image))
    image, pair = image[order], pair[order]
    begin = np.searchsorted(image, asked)
    end = np.searchsorted(image, asked, side="right")
    return found.take(pair[np.minimum(begin + candidates.MAX_CACHED_PROGRAMS, end) - 1])


def _pair(found: candidates.Candidates, place: int, rows: np.ndarray, likeness: float):
    image, other = int(rows[found.image[place]]), int(rows[found.other[place]])
    mirrored = bool(found.mirrored[place])
    down, right, zoom = (float(value) for value in found.start[place])
    if image > other:  # told of the first, and not of the second
        zoom, down, right = -zoom, -down * np.exp(-zoom), -right * np.exp(-zoom)
        right = -right if mirrored else right
    change = alignment.described(mirrored, down, right, zoom)
    band = next(band for band, least in BANDS.items() if likeness >= least)
    return Pair(min(image, other), max(image, other), likeness, change, band)
