"""Images that occur more than once, as they are or slightly changed.

Exact copies have the same decoded pixels. Near copies have hashes (ImageHash's `phash`)
that differ in `BITS` of 64 bits at most, and thumbnails whose cosine transforms agree
but for brightness and contrast. Of these the lowest frequencies are compared that both
images have: from 8 to 16 a side, half as many as the smaller has pixels.

Measured by benchmarks/near_duplicates.py: how many changed copies, of a thousand at
most, are paired with their original, in percent.

    originals                 JPEG 90   75    50  x 0.5  0.7   1.5    2  dark  bright
    digits at 32 px              100  100   100    100  100   100  100   100     96
    Fashion-MNIST, 28 px         100  100    92     93  100   100  100   100    100
    photos, tiles of 64 px        81   55    52     78  100   100  100    83     82
    those of them not faint      100   84    78    100  100   100  100   100     97
    photos, tiles of 128 px      100   93    73    100  100   100  100    97     87
    digits as they are, 8 px     100   74     0      0    0   100   99   100    100

Not faint are tiles whose levels have a standard deviation above 8; most others show
sky. Among the originals, no two digits and no two tiles were called copies. In
Fashion-MNIST 68 pairs were, 15 of them across its splits: by eye some sixty show the
same photograph or one garment in two shades, the others one cut with another print.
100,000 images of its kind, five thousand million pairs, are compared in 11 s on two
cores of an AMD EPYC; 1 kB an image is kept.

Smooth round blobs without noise or structure, as simulated galaxies are, may be called
copies of each other. Mirrored, turned and cropped copies are not found, nor those of
images without contrast.
"""

import threading
from typing import NamedTuple

import numpy as np

from hybrid_jax.data.encoded import mapped
from hybrid_jax.inspect_data.images import Images
from hybrid_jax.inspect_data.prints import THUMBNAIL, WAVES

BITS = 10  # of 64, in which hashes of copies differ at most
# 1 minus the cosine between two transforms, as they are, which shapes rule, and with
# each wave times its frequency, so that details count as much. Copies have less.
SHAPES, DETAILS = 0.002, 0.01
NOISE = 0.2  # stored levels, of rounding: what differs in faint and smooth images
GAIN = 1.25  # of contrast
SHIFT = 25.0  # of brightness, in levels of 255
FLAT = 1.0  # stored levels of contrast that a hash needs at least
FEWEST_WAVES = 8  # a side, compared of the smallest images
COLUMNS = 8192  # hashes compared at once with a block of others: 16 MiB
CANDIDATES = 16384  # confirmed at once: 32 MiB
NOBODY = -1


class Pair(NamedTuple):
    """Two images that are the same, or nearly. `difference` is 0 of exact copies.

    `first` is the earlier one of the data set: of two splits the training image.
    """

    first: int
    second: int
    difference: float


class Copies(NamedTuple):
    """Pairs across the two splits, one for each test image, and within a split.

    Of each image only its nearest other is listed: a thousand copies of one image are a
    thousand pairs, not half a million.
    """

    across: list[Pair]
    within: list[Pair]


def exact(images: Images) -> Copies:
    """Images with the same pixels, each beside the first of its kind."""
    across, within = [], []
    order = np.argsort(images.prints.pixels, kind="stable")
    digests = images.prints.pixels[order]
    starts = np.flatnonzero(np.diff(digests, prepend=~digests[:1]))
    for group in np.split(order, starts[1:]):
        tested = images.tested[group]
        train, test = group[~tested], group[tested]
        for split in (train, test):
            within += [Pair(int(split[0]), int(other), 0.0) for other in split[1:]]
        if len(train):
            across += [Pair(int(train[0]), int(other), 0.0) for other in test]
    return Copies(sorted(across), sorted(within))


def near(images: Images) -> Copies:
    """Images that look the same and are no exact copies, the nearest pairs first."""
    # One image stands for its exact copies: a training image, where one of them is.
    _, rows = np.unique(images.prints.pixels, return_index=True)
    rows = np.sort(rows)
    rows = rows[contrast(images)[rows] >= FLAT]
    looks, tested = images.prints.looks[rows], images.tested[rows]
    compare = _Comparison(images, rows)
    nearest = {kind: _Nearest(len(rows)) for kind in Copies._fields}

    def compare_block(block: slice) -> None:
        for start in range(block.start, len(rows), COLUMNS):
            others = looks[None, start : start + COLUMNS]
            bits = np.bitwise_count(looks[block, None] ^ others)
            first, second = np.nonzero(bits <= BITS)
            first, second = first + block.start, second + start
            ordered = second > first
            first, second, difference = compare(first[ordered], second[ordered])
            crossing = tested[first] != tested[second]
            for kind, chosen in (("across", crossing), ("within", ~crossing)):
                found = first[chosen], second[chosen], difference[chosen]
                nearest[kind].add(*found)

    for _ in mapped(compare_block, len(rows), "comparing images"):
        pass
    return Copies(
        nearest["across"].pairs(rows, only=tested), nearest["within"].pairs(rows)
    )


def contrast(images: Images) -> np.ndarray:
    """Standard deviation of each thumbnail's lowest waves, `[N]`, in stored levels."""
    energy = np.square(images.prints.waves.reshape(len(images), WAVES**2)[:, 1:])
    return np.sqrt(energy.sum(1)) / THUMBNAIL / _level(images)


def _level(images: Images) -> np.ndarray:
    """What one stored level of each image is of 256: less in 16 bits, `[N]`."""
    return np.array([1 / 256 if facts.peak > 255 else 1.0 for facts in images.facts])


class _Comparison:
    """Which pairs with similar hashes are copies, and how much they differ."""

    def __init__(self, images: Images, rows: np.ndarray):
        self._waves = images.prints.waves[rows].reshape(len(rows), WAVES**2)
        sides = np.array([min(images.facts[row][:2]) for row in rows])
        self._band = np.clip(sides // 2, FEWEST_WAVES, WAVES)
        self._noise = (NOISE * _level(images)[rows]) ** 2
        tall, wide = np.mgrid[:WAVES, :WAVES]
        self._frequency = np.hypot(tall, wide).ravel().astype(np.float32)
        # Masks by their side; brightness, the wave of no frequency, is in none.
        reach = np.maximum(tall, wide).ravel()
        self._masks = np.array(
            [(reach < side) & (reach > 0) for side in range(WAVES + 1)], np.float32
        )

    def __call__(self, first: np.ndarray, second: np.ndarray) -> tuple:
        """First, second and difference of those pairs that are copies."""
        kept = [(first[:0], second[:0], np.empty(0, np.float32))]
        for start in range(0, len(first), CANDIDATES):
            some = slice(start, start + CANDIDATES)
            kept.append(self._confirmed(first[some], second[some]))
        return tuple(map(np.concatenate, zip(*kept, strict=True)))

    def _confirmed(self, first: np.ndarray, second: np.ndarray) -> tuple:
        # Most pairs differ in their lowest waves already.
        lowest = self._masks[FEWEST_WAVES] > 0
        a, b = self._waves[first][:, lowest], self._waves[second][:, lowest]
        noise = np.maximum(self._noise[first], self._noise[second])
        apart, added = _apart(a, b, np.ones((1, lowest.sum())), noise)
        likely = apart < 2 * (SHAPES + added)
        noise, first, second = noise[likely], first[likely], second[likely]
        a, b = self._waves[first], self._waves[second]
        shift = np.abs(a[:, 0] - b[:, 0]) / THUMBNAIL
        mask = self._masks[np.minimum(self._band[first], self._band[second])]
        a, b = a * mask, b * mask
        gain = np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        weights = mask * self._frequency
        shapes, shapes_noise = _apart(a, b, mask, noise)
        details, details_noise = _apart(a * weights, b * weights, weights, noise)
        copies = (
            (shapes < SHAPES + shapes_noise)
            & (details < DETAILS + details_noise)
            & (np.maximum(gain, 1 / gain) < GAIN)
            & (shift < SHIFT)
        )
        difference = np.maximum(details, np.finfo(np.float32).tiny)
        return first[copies], second[copies], difference[copies]


class _Nearest:
    """The nearest other of each image; blocks may be added in any order."""

    def __init__(self, count: int):
        self._difference = np.full(count, np.inf, np.float32)
        self._other = np.full(count, NOBODY)
        self._lock = threading.Lock()

    def add(
        self, first: np.ndarray, second: np.ndarray, difference: np.ndarray
    ) -> None:
        at, other = np.concatenate([[first, second], [second, first]], axis=1)
        difference = np.concatenate([difference, difference])
        order = np.lexsort((other, difference))
        at, best = np.unique(at[order], return_index=True)
        other, difference = other[order][best], difference[order][best]
        with self._lock:
            known = self._difference[at]
            nearer = (difference < known) | (
                (difference == known) & (other < self._other[at])
            )
            self._difference[at[nearer]] = difference[nearer]
            self._other[at[nearer]] = other[nearer]

    def pairs(self, rows: np.ndarray, only: np.ndarray | None = None) -> list[Pair]:
        """Pairs of the images that these rows are; `only` of some of the places."""
        has = self._other != NOBODY
        places = np.flatnonzero(has if only is None else has & only)
        pairs = {
            Pair(
                int(rows[min(place, self._other[place])]),
                int(rows[max(place, self._other[place])]),
                float(self._difference[place]),
            )
            for place in places
        }
        return sorted(pairs, key=lambda pair: (pair.difference, pair))


def _apart(a: np.ndarray, b: np.ndarray, weights: np.ndarray, noise) -> tuple:
    """1 minus the cosine between vectors `[n, D]`, and what noise adds to it."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    norms = np.maximum(norms, 1e-12)
    added = noise * np.square(weights).sum(1) / norms
    return 1 - np.einsum("nd,nd->n", a, b) / norms, added
