"""Images as seen through a matrix each: three ways, by what the matrices may hold.

Matrices `[B, 2, 3]` map places of the result to places of the image, as in `geometry`.
All give black outside of the image, and they agree on what several of them can do, but
for `bilinear` where an image becomes smaller. Gathers beat batched products with
interpolation matrices: on two CPU cores 3 to 6 times, from 256 to 224 and 128 px.
"""

import math

import jax
import jax.numpy as jnp


def whole_pixels(images: jax.Array, matrices: jax.Array) -> jax.Array:
    """Shifts by whole pixels and symmetries of the square, exact.

    Args:
      images: `[B, H, W, C]` of any type.
      matrices: `[B, 2, 3]` that map centres of pixels to such, or to corners between,
        which count as the pixels after them.

    Returns:
      `[B, H, W, C]` of the same type.
    """
    _, height, width, _ = images.shape
    # Whole numbers, three times as fast as places rounded down.
    linear = jnp.round(matrices[..., :2]).astype(jnp.int32)
    first = jnp.floor(matrices[..., :2].sum(-1) / 2 + matrices[..., 2])
    first = first.astype(jnp.int32)[..., None, None]
    linear = linear[..., None, None]
    y, x = jnp.arange(height)[:, None], jnp.arange(width)
    rows, columns = (
        first[:, i] + linear[:, i, 0] * y + linear[:, i, 1] * x for i in (0, 1)
    )
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # One more pixel, a black one, stands for all outside.
    index = jnp.where(inside, rows * width + columns, height * width)
    return _gathered(jnp.pad(_flat(images), ((0, 0), (0, 1), (0, 0))), index)


def resample(
    images: jax.Array,
    matrices: jax.Array,
    size: tuple[int, int],
    extents: jax.Array | None = None,
) -> jax.Array:
    """Crops, flips and resizes one axis after the other.

    The weights are those of PIL's `resize(size, BILINEAR, box=...)`: a triangle, as
    wide as a pixel of the result where that is the larger one.
    `jax.image.scale_and_translate` has the same ones but cannot flip, and multiplies
    with whole matrices.

    Args:
      images: `[B, h, w, C]`.
      matrices: `[B, 2, 3]` without rotation or shear, of windows up to `h x w`.
      size: `(H, W)` of the result.
      extents: `[B, 2]`, height and width that each image fills; None if all do.

    Returns:
      float32 `[B, H, W, C]`.
    """
    # A window in whose middle an image lies is as wide for its shape as it is high.
    largest = max(a / b for a, b in zip(images.shape[1:3], size, strict=True))
    for axis in (1, 2):
        length, steps = images.shape[axis], size[axis - 1]
        scales, offsets = matrices[:, axis - 1, axis - 1], matrices[:, axis - 1, 2]
        taps = math.ceil(2 * max(length / steps if extents is None else largest, 1))
        if extents is not None:
            length = extents[:, axis - 1, None]
        index, weights = _triangles(scales, offsets, steps, length, taps)
        images = sum(
            _along(weights[..., tap], axis) * _taken(images, index[..., tap], axis)
            for tap in range(taps)
        )
    return images


def bilinear(
    images: jax.Array,
    matrices: jax.Array,
    size: tuple[int, int],
    extents: jax.Array | None = None,
) -> jax.Array:
    """Any affine maps, as PIL's `transform(size, AFFINE, ..., BILINEAR)`.

    Where the image is at least twice as large as the result both ways, it is averaged
    down by the whole factor first, against aliasing; a window of it that is smaller is
    so, too, and blurred.
    `jax.scipy.ndimage.map_coordinates` blends black into the border, and takes three
    times as long on two CPU cores; `dm_pix.affine_transform` takes 25 times as long.

    Args:
      images: `[B, h, w, C]`.
      matrices: `[B, 2, 3]`.
      size: `(H, W)` of the result.
      extents: `[B, 2]`, height and width that each image fills; None if all do. Such
        images are not averaged, for they are at most twice as large as the result.

    Returns:
      float32 `[B, H, W, C]`.
    """
    y, x = _places(matrices, size)
    height, width = images.shape[1:3]
    ends = (height, width)
    if extents is not None:
        ends = extents[:, 0, None, None], extents[:, 1, None, None]
    inside = (y >= 0) & (y < ends[0]) & (x >= 0) & (x < ends[1])
    factor = max(1, min(height // size[0], width // size[1]))
    if factor > 1 and extents is None:
        images, y, x = _averaged(images, factor), y / factor, x / factor
        _, height, width, _ = images.shape
    y, x = y - 0.5, x - 0.5
    top, left = jnp.floor(y), jnp.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    flat = _flat(images)

    def pixels(rows, columns):
        index = rows.clip(0, height - 1) * width + columns.clip(0, width - 1)
        return _gathered(flat, index).astype(jnp.float32)

    def row(rows):
        a, b = pixels(rows, left), pixels(rows, left + 1)
        return a * (1 - right) + b * right

    blended = row(top) * (1 - down) + row(top + 1) * down
    return jnp.where(inside[..., None], blended, 0.0)


def once(images: jax.Array, witness: jax.Array) -> jax.Array:
    """The images themselves, computed before what uses them.

    On CPUs XLA computes a pixel anew for each use of it, and drops an
    `optimization_barrier` before it decides so. A branch that it cannot foresee stays:
    `witness`, a scalar, is below 1e9 always.
    """

    def behind_branch(images):
        return jax.lax.cond(witness < 1e9, lambda x: x, jnp.zeros_like, images)

    return jax.lax.platform_dependent(
        images, cpu=behind_branch, default=lambda images: images
    )


def _places(matrices, size):
    """What the centres of pixels are mapped to: y and x, `[B, H, W]` each."""
    y = (jnp.arange(size[0]) + 0.5)[:, None]
    x = jnp.arange(size[1]) + 0.5
    entry = matrices[:, :, :, None, None]
    return [entry[:, i, 0] * y + entry[:, i, 1] * x + entry[:, i, 2] for i in (0, 1)]


def _flat(images):
    """`[B, H * W, C]`."""
    batch, height, width, channels = images.shape
    return images.reshape(batch, height * width, channels)


def _gathered(flat, index):
    """Pixels `[B, *, C]` at indices `[B, *]`."""
    return jax.vmap(lambda a, i: a.at[i].get(mode="promise_in_bounds"))(flat, index)


def _averaged(images, factor):
    """float32 `[B, ceil(h / factor), ...]`: means of blocks, edges repeated."""
    _, height, width, _ = images.shape
    missing = [(0, -length % factor) for length in (height, width)]
    images = jnp.pad(images, ((0, 0), *missing, (0, 0)), mode="edge")
    batch, height, width, channels = images.shape
    shape = (batch, height // factor, factor, width // factor, factor, channels)
    return images.reshape(shape).astype(jnp.float32).mean((2, 4))


def _triangles(scales, offsets, steps, length, taps):
    """Indices and weights of the pixels of an axis, `[B, steps, taps]` each.

    The axis is `length` pixels long, one number for all images or `[B, 1]`.
    """
    pixels = length if isinstance(length, int) else length[..., None]
    centre = scales[:, None] * (jnp.arange(steps) + 0.5) + offsets[:, None]
    reach = jnp.maximum(jnp.abs(scales), 1.0)[:, None]
    first = jnp.floor(centre - reach - 0.5).astype(jnp.int32) + 1
    index = first[..., None] + jnp.arange(taps)
    weights = 1 - jnp.abs(index + 0.5 - centre[..., None]) / reach[..., None]
    known = (index >= 0) & (index < pixels)
    weights = jnp.where(known, jnp.maximum(weights, 0), 0)
    total = jnp.maximum(weights.sum(-1, keepdims=True), 1e-6)
    inside = ((centre >= 0) & (centre < length))[..., None]
    return index.clip(0, pixels - 1), jnp.where(inside, weights / total, 0)


def _along(values, axis):
    """`[B, n]` shaped to multiply images along an axis."""
    return values[:, :, None, None] if axis == 1 else values[:, None, :, None]


def _taken(images, index, axis):
    """float32 rows or columns `[B, n]` of images."""
    take = {
        1: lambda image, i: image.at[i].get(mode="promise_in_bounds"),
        2: lambda image, i: image.at[:, i].get(mode="promise_in_bounds"),
    }[axis]
    return jax.vmap(take)(images, index).astype(jnp.float32)
