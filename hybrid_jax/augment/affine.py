"""Crop, symmetry, resize and affine operations as one warp, with one matrix per image.

A matrix `[2, 3]` maps a point `(y, x, 1)` of the new image to a point `(y, x)` of the
stored one. Coordinates are continuous: pixel `i` covers `[i, i + 1]`. All geometric
operations are multiplied into one matrix, so an image is interpolated once. A rotated
crop shows what lies beside it, and outside of the stored image a row of `FILLS`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from hybrid_jax.augment.resample import (
    Fill,
    bilinear,
    gather_pixels,
    materialize,
    resize_separably,
)

_IDENTITY, _FLIP_X, _FLIP_Y = np.eye(2), np.diag([1, -1]), np.diag([-1, 1])
_FLIPS = [_IDENTITY, _FLIP_X, _FLIP_Y, -_IDENTITY]

# Linear maps about the crop's center, each with the same probability; `rotation` draws
# any angle, reflected or not. Units are pixels of the stored image, so shapes stay: an
# oblong crop turned by 90 degrees loses its ends, and is filled beside them.
SYMMETRIES: dict[str, list[np.ndarray]] = {
    "none": [_IDENTITY],
    "flip": [_IDENTITY, _FLIP_X],
    "flips": _FLIPS,
    "dihedral": [*_FLIPS, *(matrix[::-1] for matrix in _FLIPS)],
    "rotation": [],
}
ASPECTS = (3 / 4, 4 / 3)  # of a resized crop, as in Szegedy et al. (2015)


def warp(
    key: jax.Array,
    images: jax.Array,
    size: tuple[int, int],
    padding: int = 0,
    scale: float = 0.0,
    symmetry: str = "none",
    matrices: jax.Array | tuple[()] = (),
    extents: jax.Array | None = None,
    fit: str = "crop",
    fill: str = "black",
) -> jax.Array:
    """Crop, flip or rotate, resize and transform images, interpolating once.

    Args:
      key: random key of the crops and symmetries.
      images: uint8 `[B, h, w, C]`.
      size: `(H, W)` of the result.
      padding: largest random shift of the crop, in pixels, where `scale` is 0.
      scale: least share of the area of a random resized crop; 0 is off.
      symmetry: row of `SYMMETRIES`.
      matrices: `[steps, B, 2, 3]`, from the image after a step to the one before it, in
        pixels of the result; the first step is applied first.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
      fit: row of `CROP_BOXES`, for images with extents.
      fill: row of `resample.FILLS`; with `fit=pad`, the black bars belong to the image.

    Returns:
      float32 `[B, H, W, C]`.
    """
    batch, *stored, _ = images.shape
    same_size = stored == [*size] and extents is None
    if same_size and not (padding or scale or symmetry != "none" or len(matrices)):
        return images.astype(jnp.float32)
    crop_key, symmetry_key = random.split(key)
    lengths = jnp.float32(stored) if extents is None else extents.astype(jnp.float32)
    lengths = jnp.broadcast_to(lengths, (batch, 2))
    low, high = jnp.zeros_like(lengths), lengths
    if scale:
        corners, sides = random_resized_crops(crop_key, lengths, scale)
    else:
        corners, sides = jnp.zeros_like(lengths), lengths
        if extents is not None:
            corners, sides = CROP_BOXES[fit](lengths, jnp.float32(size))
        low, high = jnp.minimum(low, corners), jnp.maximum(high, corners + sides)
        corners += random.randint(crop_key, (batch, 2), -padding, padding + 1)
    linear = draw_symmetries(symmetry_key, batch, symmetry)
    matrix = crop_matrices(corners, sides, linear, size)
    for step in matrices:
        matrix = compose(matrix, step)
    beyond = Fill(fill, low, high)
    axis_aligned = symmetry not in ("dihedral", "rotation")
    if same_size and not (len(matrices) or scale or symmetry == "rotation"):
        warped = gather_pixels(images, matrix, beyond)
    elif axis_aligned and not len(matrices):
        warped = resize_separably(images, matrix, size, extents, beyond)
    else:
        warped = bilinear(images, matrix, size, extents, beyond)
    return materialize(warped, matrix[0, 0, 2]).astype(jnp.float32)


def resize_to_fit(
    images: jax.Array, extents: jax.Array, size: tuple[int, int], fit: str
) -> jax.Array:
    """Resize images that fill a part of their arrays to one size.

    Args:
      images: uint8 `[B, h, w, C]`.
      extents: `[B, 2]`, height and width that each image fills.
      size: `(H, W)` of the result.
      fit: row of `CROP_BOXES`.

    Returns:
      float32 `[B, H, W, C]`.
    """
    corners, sides = CROP_BOXES[fit](extents.astype(jnp.float32), jnp.float32(size))
    identity = jnp.broadcast_to(jnp.eye(2), (len(images), 2, 2))
    matrix = crop_matrices(corners, sides, identity, size)
    return resize_separably(images, matrix, size, extents)


def _largest_inside(lengths: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    sides = (lengths / size).min(-1, keepdims=True) * size
    return (lengths - sides) / 2, sides


def _smallest_around(
    lengths: jax.Array, size: jax.Array
) -> tuple[jax.Array, jax.Array]:
    sides = (lengths / size).max(-1, keepdims=True) * size
    return (lengths - sides) / 2, sides


def _whole_image(lengths: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.zeros_like(lengths), lengths


# The box of an image that is resized to another shape: the largest centered one inside
# of it, the smallest centered one around it, or the image itself. Each maps lengths
# `[B, 2]` and a size `[2]` to corners and sides, `(y, x)` in pixels, `[B, 2]` each.
CROP_BOXES = {
    "crop": _largest_inside,
    "pad": _smallest_around,
    "stretch": _whole_image,
}


def random_resized_crops(
    key: jax.Array, lengths: jax.Array, scale: float
) -> tuple[jax.Array, jax.Array]:
    """Draw boxes of random resized crops (Szegedy et al. 2015), not rounded to pixels.

    A box that is longer than the image is clipped to it; torchvision draws again
    instead, up to ten times. Only large, oblong boxes differ.

    Args:
      key: random key.
      lengths: height and width of the images, float32 `[B, 2]`.
      scale: least share of the area.

    Returns:
      Corners and sides, `(y, x)` in pixels, `[B, 2]` each.
    """
    area_key, aspect_key, corner_key = random.split(key, 3)
    batch = len(lengths)
    share = random.uniform(area_key, (batch,), minval=scale)
    least, most = map(math.log, ASPECTS)
    aspect = jnp.exp(random.uniform(aspect_key, (batch,), minval=least, maxval=most))
    area = share * lengths.prod(-1)
    sides = jnp.sqrt(jnp.stack([area / aspect, area * aspect], -1))
    sides = jnp.minimum(sides, lengths)
    return random.uniform(corner_key, (batch, 2)) * (lengths - sides), sides


def draw_symmetries(key: jax.Array, batch: int, symmetry: str) -> jax.Array:
    """Draw matrices `[B, 2, 2]` uniformly from a row of `SYMMETRIES`."""
    if symmetry != "rotation":
        matrices = jnp.float32(np.stack(SYMMETRIES[symmetry]))
        return matrices[random.randint(key, (batch,), 0, len(matrices))]
    angle_key, reflection_key = random.split(key)
    rotated = rotation(random.uniform(angle_key, (batch,), maxval=2 * math.pi))
    is_reflected = random.bernoulli(reflection_key, 0.5, (batch, 1, 1))
    return jnp.where(is_reflected, rotated[:, :, ::-1], rotated)


def views(images: jax.Array, symmetry: str) -> list[jax.Array]:
    """Return the images under each map of a row of `SYMMETRIES`.

    For `rotation`, these are the maps of `dihedral`. Oblong images are turned by half
    turns only, since quarter turns would cut their ends off.

    Args:
      images: `[B, H, W, C]`.
      symmetry: row of `SYMMETRIES`.

    Returns:
      Arrays `[B, H, W, C]`, the images themselves first.
    """
    found, is_square = [], images.shape[1] == images.shape[2]
    for matrix in SYMMETRIES["dihedral" if symmetry == "rotation" else symmetry]:
        is_turned = matrix[0, 0] == 0
        if is_turned and not is_square:
            continue
        view = images.swapaxes(1, 2) if is_turned else images
        reversed_axes = [1 + int(i) for i in range(2) if matrix[i].sum() < 0]
        found.append(jnp.flip(view, reversed_axes))
    return found


def rotation(angle: jax.Array) -> jax.Array:
    """Return matrices `[..., 2, 2]` that rotate counterclockwise by radians `[...]`."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


def crop_matrices(
    corners: jax.Array, sides: jax.Array, linear: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """Return matrices `[B, 2, 3]` that resize boxes, mapped about their centers.

    Args:
      corners, sides: `(y, x)` in pixels of the stored image, `[B, 2]`.
      linear: linear maps of points, `[B, 2, 2]`.
      size: `(H, W)` of the result.
    """
    linear = linear * (sides / jnp.float32(size))[:, None]
    centers = corners + sides / 2
    return affine_through(linear, centers, jnp.float32(size) / 2)


def affine_through(
    linear: jax.Array, target: jax.Array, source: jax.Array
) -> jax.Array:
    """Return `[..., 2, 3]` with a linear part `[..., 2, 2]` that maps source to target.

    Args:
      linear: the linear part, `[..., 2, 2]`.
      target, source: points `(y, x)`, `[..., 2]`.
    """
    # A sum of products: `@` of floats is not exact on every device.
    offset = target - (linear * source[..., None, :]).sum(-1)
    return jnp.concatenate([linear, offset[..., None]], -1)


def compose(outer: jax.Array, inner: jax.Array) -> jax.Array:
    """Return the matrix that applies `inner` and then `outer`; all are `[B, 2, 3]`."""
    linear, offset = outer[..., :2], outer[..., 2:]
    product = (linear[..., None] * inner[..., None, :, :]).sum(-2)
    return jnp.concatenate([product[..., :2], product[..., 2:] + offset], -1)
