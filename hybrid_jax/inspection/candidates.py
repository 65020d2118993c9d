"""For every image the few others that it may be a copy of.

Each image is seen through several windows of a 6x6 grid, mirrored too, without its
brightness and contrast. The likeness of two views is their correlation, so that of all
pairs is a matrix product; of two images it is that of their most alike views. Blocks of
it are computed on the device, and only the `MAX_CACHED_PROGRAMS` best of each image stay.

Shapes: `N` images, `M` others to choose from, `B` images of a block, `V` views, `K`
kept.
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.data.lazy_images import mapped

SIDE = 6  # of the grid that a window is seen through
MAX_CACHED_PROGRAMS = 6  # candidates of an image in each split
BLOCK = 256  # images that are compared at once
GROUPS = 64  # columns of a tile, times as many members as a group has
MEMBERS = 32  # of a group, at most, of which the best is kept
EXACT_UP_TO = 4096  # columns without groups
TAG = 63  # bits of a likeness that hold a member's number


class Window(NamedTuple):
    """A part of an image: its middle and its side, in parts of the image's side."""

    down: float = 0.0
    right: float = 0.0
    side: float = 1.0


# Compared with: the whole other image, or its middle.
WHOLE, MIDDLE = Window(), Window(side=0.75)
OTHERS = (WHOLE, MIDDLE)
VIEWS = (
    (WHOLE, 0),
    (MIDDLE, 1),  # both may have a frame
    (Window(0.1, 0.1, 0.75), 1),  # shifted
    (Window(0.1, -0.1, 0.75), 1),
    (MIDDLE, 0),  # the other one is cropped
)


class Candidates(NamedTuple):
    """Pairs of images that may be copies, each once.

    Attributes:
      image: int `[P]`, the one that is seen through windows.
      other: int `[P]`.
      likeness: float `[P]`, of their most alike views.
      mirrored: bool `[P]`, whether `image` was mirrored first.
      start: float `[P, 3]`, a first guess of what maps `image` onto `other`: see
        `alignment`.
    """

    image: np.ndarray
    other: np.ndarray
    likeness: np.ndarray
    mirrored: np.ndarray
    start: np.ndarray

    def take(self, chosen: np.ndarray) -> "Candidates":
        """Some of the pairs."""
        return Candidates(*(values[chosen] for values in self))


def find(thumbnails: np.ndarray, of_split: np.ndarray) -> Candidates:
    """The pairs that are most alike, of each image with each split.

    Args:
      thumbnails: `[N, S, S]`.
      of_split: `[N]`, the split of each image.
    """
    found = [
        _search(thumbnails, np.flatnonzero(of_split == split))
        for split in np.unique(of_split)
    ]
    image, other, likeness, view = map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort((image, -likeness))
    low, high = np.minimum(image, other), np.maximum(image, other)
    _, first = np.unique((low * len(of_split) + high)[order], return_index=True)
    kept = order[first]
    view = view[kept]
    starts = np.array([_start(window, OTHERS[o]) for window, o in VIEWS], np.float32)
    return Candidates(
        image[kept],
        other[kept],
        likeness[kept],
        view >= len(VIEWS),
        starts[view % len(VIEWS)],
    )


def _start(window: Window, other: Window) -> tuple[float, float, float]:
    scale = other.side / window.side
    return -window.down * scale, -window.right * scale, float(np.log(scale))


def _search(thumbnails: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Image, other, likeness and view of the best `columns` of every image."""
    members = int(np.clip(len(columns) // EXACT_UP_TO, 1, MEMBERS))
    groups = _rounded(-(-len(columns) // members))
    others = np.zeros((len(OTHERS), members * groups, SIDE**2), np.float32)

    def see(rows: slice) -> None:
        others[:, rows] = _views(thumbnails[columns[rows]], OTHERS)

    for _ in mapped(see, len(columns), size=BLOCK):
        pass
    others = jnp.asarray(others.reshape(len(OTHERS), members, groups, SIDE**2))
    windows = [window for window, _ in VIEWS]

    def compare(rows: slice) -> tuple[np.ndarray, ...]:
        some = _padded(thumbnails[rows])
        views = np.concatenate(
            [_views(some, windows), _views(some[:, :, ::-1], windows)]
        )
        best = _best(views, others, MAX_CACHED_PROGRAMS + 1)
        count = rows.stop - rows.start
        likeness, column, view = (np.asarray(values)[:count] for values in best)
        image = np.arange(rows.start, rows.stop)[:, None]
        image = np.broadcast_to(image, column.shape)
        real = column < len(columns)
        real[real] = columns[column[real]] != image[real]
        return image[real], columns[column[real]], likeness[real], view[real]

    found = [*mapped(compare, len(thumbnails), "comparing images", BLOCK)]
    return tuple(map(np.concatenate, zip(*found, strict=True)))


def _padded(block: np.ndarray) -> np.ndarray:
    """A block of one size, whose program is compiled once."""
    missing = BLOCK - len(block)
    return np.pad(block, [(0, missing), (0, 0), (0, 0)])


def _rounded(groups: int) -> int:
    """A few more groups, so that data sets of similar sizes share a program."""
    step = max(GROUPS, 2 ** max(groups.bit_length() - 3, 0))
    return -(-groups // step) * step


def _views(thumbnails: np.ndarray, windows: Iterable[Window]) -> np.ndarray:
    """What windows show, without brightness and contrast, `[V, N, SIDE * SIDE]`."""
    views = []
    for window in windows:
        down = _shrinking(thumbnails.shape[1], window.down, window.side)
        right = _shrinking(thumbnails.shape[2], window.right, window.side)
        seen = (down @ thumbnails.astype(np.float32)) @ right.T
        seen = seen.reshape(len(seen), -1)
        seen = seen - seen.mean(1, keepdims=True)
        views.append(seen / np.maximum(np.linalg.norm(seen, axis=1), 1e-6)[:, None])
    return np.stack(views)


@functools.cache
def _shrinking(pixels: int, middle: float, side: float) -> np.ndarray:
    """Weighted means of pixels that make a window's side, `[SIDE, pixels]`."""
    width = side * pixels / SIDE
    cells = (0.5 + middle - side / 2) * pixels + width * (np.arange(SIDE) + 0.5) - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(pixels) - cells[:, None]) / width)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def _best(views: jax.Array, others: jax.Array, count: int) -> tuple[jax.Array, ...]:
    """Likeness, column and view of the most alike others, `[B, count]` each.

    Args:
      views: `[2 V, B, D]`, the mirrored ones last.
      others: `[windows, members, groups, D]`; of a group only the best is seen.
      count: how many.
    """
    windows, members, groups, size = others.shape
    compared = [(view, VIEWS[i % len(VIEWS)][1]) for i, view in enumerate(views)]
    member = jnp.arange(members)[:, None]

    def best_of_groups(tile: jax.Array) -> jax.Array:
        tile = tile.reshape(windows, -1, size)
        alike = functools.reduce(jnp.maximum, (v @ tile[o].T for v, o in compared))
        # The bits of positive numbers are in their order: the last ones give way to
        # the member's number, so that one maximum finds both.
        bits = jax.lax.bitcast_convert_type(alike + 2, jnp.int32)
        bits = (bits.reshape(-1, members, GROUPS) & ~TAG) | member
        return bits.max(1)

    tiles = others.reshape(windows, members, -1, GROUPS, size)
    tiles = tiles.transpose(2, 0, 1, 3, 4)
    bits = jax.lax.map(best_of_groups, tiles).transpose(1, 0, 2).reshape(-1, groups)
    best, group = jax.lax.top_k(jax.lax.bitcast_convert_type(bits, jnp.float32), count)
    bits = jax.lax.bitcast_convert_type(best, jnp.int32)
    column = (bits & TAG) * groups + group
    chosen = others.reshape(windows, -1, size)[:, column]
    alike = jnp.stack([jnp.einsum("bd,bkd->bk", v, chosen[o]) for v, o in compared])
    return alike.max(0), column, alike.argmax(0)
