"""Find candidates: for every image the few others that it may be a copy of.

Each image has several views: regions resized to a 6x6 grid, mirrored too, without
brightness and contrast. The similarity of two views is their correlation, so the
similarities of all pairs are a matrix product. Two images are as similar as their most
similar views. The device computes blocks of the product, and keeps the best
`CANDIDATES` of each image.

Shapes: `N` images, `B` images of a block, `V` views, `D` values of a view.
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.data.lazy_images import parallel_map

SIDE = 6  # of a view, in values
CANDIDATES = 6  # of an image in each split
BLOCK = 256  # images that are compared at once
GROUPS = 64  # groups of columns in a tile
MEMBERS = 32  # most columns in a group, of which only the best is kept
EXACT_UP_TO = 4096  # columns for each member of a group
TAG = 63  # last bits of a similarity, which hold a member's number


class Region(NamedTuple):
    """A square part of an image, relative to the image's side.

    Attributes:
      down, right: offset of its center from the image's center.
      side: its side.
    """

    down: float = 0.0
    right: float = 0.0
    side: float = 1.0


# Regions of the other image that views are compared with.
WHOLE, MIDDLE = Region(), Region(side=0.75)
OTHER_REGIONS = (WHOLE, MIDDLE)
# A region of an image, and the number of the other image's region.
VIEWS = (
    (WHOLE, 0),
    (MIDDLE, 1),  # both may have a frame
    (Region(0.1, 0.1, 0.75), 1),  # shifted
    (Region(0.1, -0.1, 0.75), 1),
    (MIDDLE, 0),  # the other image is cropped
)


class Candidates(NamedTuple):
    """P pairs of images that may be copies, each once.

    Attributes:
      image: int `[P]`, the image with several views.
      other: int `[P]`, the other image.
      similarity: float `[P]`, similarity of their most similar views.
      mirrored: bool `[P]`, whether `image` was mirrored first.
      start: float `[P, 3]`, first guess of the placement of `image` in `other`, see
        `alignment`.
    """

    image: np.ndarray
    other: np.ndarray
    similarity: np.ndarray
    mirrored: np.ndarray
    start: np.ndarray

    def take(self, picked: np.ndarray) -> "Candidates":
        """Return some of the pairs."""
        return Candidates(*(values[picked] for values in self))


def find(thumbnails: np.ndarray, split_index: np.ndarray) -> Candidates:
    """Find the images of each split that are most similar to each image.

    Args:
      thumbnails: `[N, S, S]`.
      split_index: split of each image, `[N]`.
    """
    found = [
        _search(thumbnails, np.flatnonzero(split_index == split))
        for split in np.unique(split_index)
    ]
    image, other, similarity, view = map(np.concatenate, zip(*found, strict=True))
    order = np.lexsort((image, -similarity))
    low, high = np.minimum(image, other), np.maximum(image, other)
    _, first = np.unique((low * len(split_index) + high)[order], return_index=True)
    first_rows = order[first]
    view = view[first_rows]
    starts = np.array(
        [_start(region, OTHER_REGIONS[o]) for region, o in VIEWS], np.float32
    )
    return Candidates(
        image[first_rows],
        other[first_rows],
        similarity[first_rows],
        view >= len(VIEWS),
        starts[view % len(VIEWS)],
    )


def _start(region: Region, other: Region) -> tuple[float, float, float]:
    scale = other.side / region.side
    return -region.down * scale, -region.right * scale, float(np.log(scale))


def _search(thumbnails: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return image, other, similarity and view of each image's best pairs.

    Args:
      thumbnails: `[N, S, S]`.
      columns: numbers of the images to compare with.
    """
    members = int(np.clip(len(columns) // EXACT_UP_TO, 1, MEMBERS))
    groups = _round_up(-(-len(columns) // members))
    pixels = np.zeros((len(OTHER_REGIONS), members * groups, SIDE**2), np.float32)

    def fill_views(rows: slice) -> None:
        pixels[:, rows] = _views(thumbnails[columns[rows]], OTHER_REGIONS)

    for _ in parallel_map(fill_views, len(columns), size=BLOCK):
        pass
    others = jnp.asarray(pixels.reshape(len(OTHER_REGIONS), members, groups, SIDE**2))
    regions = [region for region, _ in VIEWS]

    def compare(rows: slice) -> tuple[np.ndarray, ...]:
        block = _pad_block(thumbnails[rows])
        views = np.concatenate(
            [_views(block, regions), _views(block[:, :, ::-1], regions)]
        )
        best = _best(views, others, CANDIDATES + 1)
        count = rows.stop - rows.start
        similarity, column, view = (np.asarray(values)[:count] for values in best)
        image = np.arange(rows.start, rows.stop)[:, None]
        image = np.broadcast_to(image, column.shape)
        real = column < len(columns)
        real[real] = columns[column[real]] != image[real]
        return image[real], columns[column[real]], similarity[real], view[real]

    found = [*parallel_map(compare, len(thumbnails), "comparing images", BLOCK)]
    return tuple(map(np.concatenate, zip(*found, strict=True)))


def _pad_block(block: np.ndarray) -> np.ndarray:
    """Pad a block to `BLOCK` images, so that its program is compiled once."""
    missing = BLOCK - len(block)
    return np.pad(block, [(0, missing), (0, 0), (0, 0)])


def _round_up(groups: int) -> int:
    """Round the number of groups up, so that similar data sets share a program."""
    step = max(GROUPS, 2 ** max(groups.bit_length() - 3, 0))
    return -(-groups // step) * step


def _views(thumbnails: np.ndarray, regions: Iterable[Region]) -> np.ndarray:
    """Return normalized views of regions, `[V, N, SIDE * SIDE]`."""
    views = []
    for region in regions:
        down = _shrink_weights(thumbnails.shape[1], region.down, region.side)
        right = _shrink_weights(thumbnails.shape[2], region.right, region.side)
        view = (down @ thumbnails.astype(np.float32)) @ right.T
        view = view.reshape(len(view), -1)
        view = view - view.mean(1, keepdims=True)
        views.append(view / np.maximum(np.linalg.norm(view, axis=1), 1e-6)[:, None])
    return np.stack(views)


@functools.cache
def _shrink_weights(pixels: int, middle: float, side: float) -> np.ndarray:
    """Return the weights of pixels in a region's resized side, `[SIDE, pixels]`."""
    width = side * pixels / SIDE
    cells = (0.5 + middle - side / 2) * pixels + width * (np.arange(SIDE) + 0.5) - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(pixels) - cells[:, None]) / width)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def _best(views: jax.Array, others: jax.Array, count: int) -> tuple[jax.Array, ...]:
    """Return similarity, column and view of the most similar others, `[B, count]` each.

    Args:
      views: `[2 V, B, D]`, the mirrored ones last.
      others: `[regions, members, groups, D]`; only the best member of a group counts.
      count: number of others.
    """
    regions, members, groups, size = others.shape
    compared = [(view, VIEWS[i % len(VIEWS)][1]) for i, view in enumerate(views)]
    member = jnp.arange(members)[:, None]

    def best_of_groups(tile: jax.Array) -> jax.Array:
        tile = tile.reshape(regions, -1, size)
        similarities = functools.reduce(
            jnp.maximum, (v @ tile[o].T for v, o in compared)
        )
        # Bits of positive floats sort like the floats. The last bits hold the member's
        # number, so that one maximum finds both.
        bits = jax.lax.bitcast_convert_type(similarities + 2, jnp.int32)
        bits = (bits.reshape(-1, members, GROUPS) & ~TAG) | member
        return bits.max(1)

    tiles = others.reshape(regions, members, -1, GROUPS, size)
    tiles = tiles.transpose(2, 0, 1, 3, 4)
    bits = jax.lax.map(best_of_groups, tiles).transpose(1, 0, 2).reshape(-1, groups)
    best, group = jax.lax.top_k(jax.lax.bitcast_convert_type(bits, jnp.float32), count)
    bits = jax.lax.bitcast_convert_type(best, jnp.int32)
    column = (bits & TAG) * groups + group
    picked = others.reshape(regions, -1, size)[:, column]
    similarities = jnp.stack(
        [jnp.einsum("bd,bkd->bk", v, picked[o]) for v, o in compared]
    )
    return similarities.max(0), column, similarities.argmax(0)
