"""Resampling of images by affine matrices: a function for each kind of matrix.

Matrices `[B, 2, 3]` map points of the result to points of the image, as in `affine`.
Outside of the image, all functions give black, unless a `Fill` names another place to
look at. Where several of them apply, they agree, except for `bilinear` where an image
becomes smaller. Gathers are 3 to 6 times as fast as batched products with interpolation
matrices (two CPU cores, 256 to 224 and 128 px).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def _mirrored(offsets: jax.Array, lengths: jax.Array) -> jax.Array:
    offsets %= 2 * lengths
    return jnp.minimum(offsets, 2 * lengths - offsets)


# What is seen outside of an image: a map from offsets from the image's first edge, and
# its length, to the offsets that are looked up instead; None leaves black.
FILLS: dict[str, Callable[[jax.Array, jax.Array], jax.Array] | None] = {
    "black": None,
    "edge": lambda offsets, lengths: offsets,
    "reflect": _mirrored,
}


class Fill(NamedTuple):
    """Where to look up what lies outside of images.

    Attributes:
      name: row of `FILLS`.
      low, high: `[B, 2]`, the first and last edges of each image, `(y, x)` in pixels.
    """

    name: str
    low: jax.Array | np.ndarray
    high: jax.Array | np.ndarray

    def move(self, points: jax.Array, axis: int) -> jax.Array:
        """Return the coordinates to look up for coordinates `[B, ...]` of an axis."""
        fill = FILLS[self.name]
        if fill is None:
            return points
        shape = (-1, *[1] * (points.ndim - 1))
        edges = jnp.asarray([self.low, self.high])[..., axis]
        low, high = (edge.reshape(shape) for edge in edges)
        # Half a pixel from an edge, interpolation sees the outermost pixel alone.
        return (low + fill(points - low, high - low)).clip(low + 0.5, high - 0.5)

    def move_pixels(self, index: jax.Array, axis: int) -> jax.Array:
        """Return the pixels to look up for pixels `[B, ...]` of an axis."""
        if FILLS[self.name] is None:
            return index
        return jnp.floor(self.move(index + 0.5, axis)).astype(jnp.int32)


BLACK = Fill("black", np.zeros((1, 2)), np.zeros((1, 2)))


def gather_pixels(
    images: jax.Array, matrices: jax.Array, fill: Fill = BLACK
) -> jax.Array:
    """Apply shifts by whole pixels and symmetries of the square, exactly.

    Args:
      images: `[B, H, W, C]` of any type.
      matrices: `[B, 2, 3]` that map centers of pixels to centers, or to corners between
        pixels, which count as the pixel after them.
      fill: what is seen outside of the images.

    Returns:
      `[B, H, W, C]` of the same type.
    """
    _, height, width, _ = images.shape
    # Integer coordinates are three times as fast as rounding float coordinates down.
    linear = jnp.round(matrices[..., :2]).astype(jnp.int32)
    first = jnp.floor(matrices[..., :2].sum(-1) / 2 + matrices[..., 2])
    first = first.astype(jnp.int32)[..., None, None]
    linear = linear[..., None, None]
    y, x = jnp.arange(height)[:, None], jnp.arange(width)
    rows, columns = (
        fill.move_pixels(first[:, i] + linear[:, i, 0] * y + linear[:, i, 1] * x, i)
        for i in (0, 1)
    )
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # One more pixel, a black one, stands for all outside pixels.
    index = jnp.where(inside, rows * width + columns, height * width)
    return _gather(jnp.pad(_flat(images), ((0, 0), (0, 1), (0, 0))), index)


def resize_separably(
    images: jax.Array,
    matrices: jax.Array,
    size: tuple[int, int],
    extents: jax.Array | None = None,
    fill: Fill = BLACK,
) -> jax.Array:
    """Crop, flip and resize one axis after the other.

    The weights are those of Pillow's `resize(size, BILINEAR, box=...)`: a triangle, as
    wide as a pixel of the result where that is the larger one.
    `jax.image.scale_and_translate` has the same weights but cannot flip, and multiplies
    by dense matrices.

    Args:
      images: `[B, h, w, C]`.
      matrices: `[B, 2, 3]` without rotation or shear, of boxes up to `h x w`.
      size: `(H, W)` of the result.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
      fill: what is seen outside of the images.

    Returns:
      float32 `[B, H, W, C]`.
    """
    # The smallest box around an image may be longer than the image along one axis.
    max_scale = max(a / b for a, b in zip(images.shape[1:3], size, strict=True))
    for axis in (1, 2):
        length: int | jax.Array = images.shape[axis]
        steps = size[axis - 1]
        scales, offsets = matrices[:, axis - 1, axis - 1], matrices[:, axis - 1, 2]
        taps = math.ceil(
            2 * max(images.shape[axis] / steps if extents is None else max_scale, 1)
        )
        if extents is not None:
            length = extents[:, axis - 1, None]
        index, weights = _triangle_weights(
            scales, offsets, steps, length, taps, fill, axis - 1
        )
        products = (
            _broadcast(weights[..., tap], axis)
            * _gather_axis(images, index[..., tap], axis)
            for tap in range(taps)
        )
        images = jnp.asarray(sum(products))
    return images


def bilinear(
    images: jax.Array,
    matrices: jax.Array,
    size: tuple[int, int],
    extents: jax.Array | None = None,
    fill: Fill = BLACK,
) -> jax.Array:
    """Apply any affine maps, like Pillow's `transform(size, AFFINE, ..., BILINEAR)`.

    An image at least twice as large as the result both ways is first averaged down by
    the integer factor, against aliasing. A small crop of such an image is thus blurred.
    `jax.scipy.ndimage.map_coordinates` blends black into the border, and takes three
    times as long on two CPU cores; `dm_pix.affine_transform` takes 25 times as long.

    Args:
      images: `[B, h, w, C]`.
      matrices: `[B, 2, 3]`.
      size: `(H, W)` of the result.
      extents: `[B, 2]`, height and width that each image fills; None if all do. Such
        images are not averaged, for they are at most twice as large as the result.
      fill: what is seen outside of the images.

    Returns:
      float32 `[B, H, W, C]`.
    """
    y, x = (fill.move(c, i) for i, c in enumerate(_map_centers(matrices, size)))
    height, width = images.shape[1:3]
    bottom: int | jax.Array = height
    end: int | jax.Array = width
    if extents is not None:
        bottom, end = extents[:, 0, None, None], extents[:, 1, None, None]
    inside = (y >= 0) & (y < bottom) & (x >= 0) & (x < end)
    factor = max(1, min(height // size[0], width // size[1]))
    if factor > 1 and extents is None:
        images, y, x = _average_blocks(images, factor), y / factor, x / factor
        _, height, width, _ = images.shape
    y, x = y - 0.5, x - 0.5
    top, left = jnp.floor(y), jnp.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    flat = _flat(images)

    def pixels(rows: jax.Array, columns: jax.Array) -> jax.Array:
        index = rows.clip(0, height - 1) * width + columns.clip(0, width - 1)
        return _gather(flat, index).astype(jnp.float32)

    def row(rows: jax.Array) -> jax.Array:
        a, b = pixels(rows, left), pixels(rows, left + 1)
        return a * (1 - right) + b * right

    blended = row(top) * (1 - down) + row(top + 1) * down
    return jnp.where(inside[..., None], blended, 0.0)


def materialize(images: jax.Array, small_scalar: jax.Array) -> jax.Array:
    """Return the images unchanged, computed once before they are used.

    On CPUs XLA recomputes a pixel for each use of it, and drops an
    `optimization_barrier` before it decides so. It keeps a branch whose condition it
    cannot know.

    Args:
      images: of any shape.
      small_scalar: a traced number, always below 1e9.
    """

    def behind_branch(images: jax.Array) -> jax.Array:
        return jax.lax.cond(small_scalar < 1e9, lambda x: x, jnp.zeros_like, images)

    return jax.lax.platform_dependent(
        images, cpu=behind_branch, default=lambda images: images
    )


def _map_centers(matrices: jax.Array, size: tuple[int, int]) -> list[jax.Array]:
    """Map the centers of pixels to y and x, `[B, H, W]` each."""
    y = (jnp.arange(size[0]) + 0.5)[:, None]
    x = jnp.arange(size[1]) + 0.5
    entry = matrices[:, :, :, None, None]
    return [entry[:, i, 0] * y + entry[:, i, 1] * x + entry[:, i, 2] for i in (0, 1)]


def _flat(images: jax.Array) -> jax.Array:
    """Reshape images to `[B, H * W, C]`."""
    batch, height, width, channels = images.shape
    return images.reshape(batch, height * width, channels)


def _gather(flat: jax.Array, index: jax.Array) -> jax.Array:
    """Return pixels `[B, *, C]` at indices `[B, *]`."""
    return jax.vmap(lambda a, i: a.at[i].get(mode="promise_in_bounds"))(flat, index)


def _average_blocks(images: jax.Array, factor: int) -> jax.Array:
    """Return means of blocks, edges repeated, float32 `[B, ceil(h / factor), ...]`."""
    _, height, width, _ = images.shape
    missing = [(0, -length % factor) for length in (height, width)]
    images = jnp.pad(images, ((0, 0), *missing, (0, 0)), mode="edge")
    batch, height, width, channels = images.shape
    shape = (batch, height // factor, factor, width // factor, factor, channels)
    return images.reshape(shape).astype(jnp.float32).mean((2, 4))


def _triangle_weights(
    scales: jax.Array,
    offsets: jax.Array,
    steps: int,
    length: int | jax.Array,
    taps: int,
    fill: Fill,
    axis: int,
) -> tuple[jax.Array, jax.Array]:
    """Return indices and weights of the pixels of an axis, `[B, steps, taps]` each.

    Args:
      scales, offsets: map a coordinate of the result to the image, `[B]`.
      steps: pixels of the result.
      length: pixels of the axis, one number for all images or `[B, 1]`.
      taps: pixels that a pixel of the result depends on, at most.
      fill: what is seen outside of the images.
      axis: 0 for rows, 1 for columns.
    """
    pixels = length if isinstance(length, int) else length[..., None]
    center = scales[:, None] * (jnp.arange(steps) + 0.5) + offsets[:, None]
    radius = jnp.maximum(jnp.abs(scales), 1.0)[:, None]
    first = jnp.floor(center - radius - 0.5).astype(jnp.int32) + 1
    index = first[..., None] + jnp.arange(taps)
    weights = 1 - jnp.abs(index + 0.5 - center[..., None]) / radius[..., None]
    index = fill.move_pixels(index, axis)
    is_known = (index >= 0) & (index < pixels)
    weights = jnp.where(is_known, jnp.maximum(weights, 0), 0)
    total = jnp.maximum(weights.sum(-1, keepdims=True), 1e-6)
    center = fill.move(center, axis)
    inside = ((center >= 0) & (center < length))[..., None]
    return index.clip(0, pixels - 1), jnp.where(inside, weights / total, 0)


def _broadcast(values: jax.Array, axis: int) -> jax.Array:
    """Reshape `[B, n]` to multiply images along an axis."""
    return values[:, :, None, None] if axis == 1 else values[:, None, :, None]


def _gather_axis(images: jax.Array, index: jax.Array, axis: int) -> jax.Array:
    """Return rows (axis 1) or columns (axis 2) `[B, n]` of images, float32."""
    take = {
        1: lambda image, i: image.at[i].get(mode="promise_in_bounds"),
        2: lambda image, i: image.at[:, i].get(mode="promise_in_bounds"),
    }[axis]
    return jax.vmap(take)(images, index).astype(jnp.float32)
