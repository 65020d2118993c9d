"""Where each pixel of an augmented image comes from: one matrix an image.

A matrix `[2, 3]` maps a place `(y, x, 1)` of the new image to a place `(y, x)` of the
stored one. Places are continuous: pixel `i` covers `[i, i + 1]`. Crop, symmetry, resize
and the moves of a policy are multiplied into one matrix, so that an image is resampled
once, and black comes in only from outside of the stored image: where a crop is turned,
what lay beside it comes in.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from hybrid_jax.augment.resample import bilinear, once, resample, whole_pixels

_KEPT, _LEFT_RIGHT, _UP_DOWN = np.eye(2), np.diag([1, -1]), np.diag([-1, 1])
_STRAIGHT = [_KEPT, _LEFT_RIGHT, _UP_DOWN, -_KEPT]

# What an image may be mapped to, each by the same chance, about the crop's centre. In
# pixels of the stored image, so that shapes stay: an oblong one turned by 90 degrees
# loses its ends and is black beside them.
SYMMETRIES = {
    "none": [_KEPT],
    "flip": [_KEPT, _LEFT_RIGHT],
    "flips": _STRAIGHT,
    "dihedral": [*_STRAIGHT, *(matrix[::-1] for matrix in _STRAIGHT)],
    "rotation": "any angle, reflected or not",
}
ASPECTS = (3 / 4, 4 / 3)  # of a resized crop, as in Szegedy et al. (2015)


def place(
    key: jax.Array,
    images: jax.Array,
    size: tuple[int, int],
    padding: int = 0,
    scale: float = 0.0,
    symmetry: str = "none",
    moves: jax.Array | tuple = (),
    extents: jax.Array | None = None,
    fit: str = "crop",
) -> jax.Array:
    """Crops, maps by a symmetry, resizes and moves images, in one warp.

    Args:
      key: of the crops and symmetries.
      images: uint8 `[B, h, w, C]`.
      size: `(H, W)` of the result.
      padding: pixels by which a crop of the image's own size may leave it.
      scale: least share of the area of a resized crop; 0 is off.
      symmetry: a row of `SYMMETRIES`.
      moves: `[steps, B, 2, 3]`, from the image after a move to the one before it, in
        pixels of the result; the first acts first.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
      fit: row of `WINDOWS`, for images with extents.

    Returns:
      float32 `[B, H, W, C]`.
    """
    batch, *stored, _ = images.shape
    same = stored == [*size] and extents is None
    if same and not (padding or scale or symmetry != "none" or len(moves)):
        return images.astype(jnp.float32)
    crop_key, symmetry_key = random.split(key)
    lengths = jnp.float32(stored) if extents is None else extents.astype(jnp.float32)
    lengths = jnp.broadcast_to(lengths, (batch, 2))
    if scale:
        corners, sides = resized_crops(crop_key, lengths, scale)
    else:
        corners, sides = jnp.zeros_like(lengths), lengths
        if extents is not None:
            corners, sides = WINDOWS[fit](lengths, jnp.float32(size))
        corners += random.randint(crop_key, (batch, 2), -padding, padding + 1)
    turns = draw_symmetries(symmetry_key, batch, symmetry)
    matrices = view(corners, sides, turns, size)
    for move in moves:
        matrices = compose(matrices, move)
    straight = symmetry not in ("dihedral", "rotation")
    if same and not (len(moves) or scale or symmetry == "rotation"):
        seen = whole_pixels(images, matrices)
    elif straight and not len(moves):
        seen = resample(images, matrices, size, extents)
    else:
        seen = bilinear(images, matrices, size, extents)
    return once(seen, matrices[0, 0, 2]).astype(jnp.float32)


def fitted(
    images: jax.Array, extents: jax.Array, size: tuple[int, int], fit: str
) -> jax.Array:
    """Images that fill a part of their arrays, brought to one size.

    Args:
      images: uint8 `[B, h, w, C]`.
      extents: `[B, 2]`, height and width that each image fills.
      size: `(H, W)` of the result.
      fit: row of `WINDOWS`.

    Returns:
      float32 `[B, H, W, C]`.
    """
    corners, sides = WINDOWS[fit](extents.astype(jnp.float32), jnp.float32(size))
    upright = jnp.broadcast_to(jnp.eye(2), (len(images), 2, 2))
    return resample(images, view(corners, sides, upright, size), size, extents)


def _cropped(lengths: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest window of a size's shape in the middle of an image."""
    sides = (lengths / size).min(-1, keepdims=True) * size
    return (lengths - sides) / 2, sides


def _padded(lengths: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The smallest window of a size's shape that an image fits in the middle of."""
    sides = (lengths / size).max(-1, keepdims=True) * size
    return (lengths - sides) / 2, sides


def _stretched(lengths: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A whole image, whatever its shape."""
    return jnp.zeros_like(lengths), lengths


# What is seen of an image of another shape, from lengths `[B, 2]` and a size `[2]`:
# corners and sides of windows, `(y, x)` in pixels, `[B, 2]` each.
WINDOWS = {"crop": _cropped, "pad": _padded, "stretch": _stretched}


def resized_crops(
    key: jax.Array, lengths: jax.Array, scale: float
) -> tuple[jax.Array, jax.Array]:
    """Windows of a random resized crop (Szegedy et al. 2015), not rounded to pixels.

    A window that is longer than the image is cut to it, where torchvision draws again
    up to ten times; only large, oblong windows differ.

    Args:
      key: of the draw.
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
    """Matrices `[B, 2, 2]` of a row of `SYMMETRIES`, uniform over it."""
    if symmetry != "rotation":
        matrices = jnp.float32(np.stack(SYMMETRIES[symmetry]))
        return matrices[random.randint(key, (batch,), 0, len(matrices))]
    angle_key, reflection_key = random.split(key)
    turned = rotation(random.uniform(angle_key, (batch,), maxval=2 * math.pi))
    reflected = random.bernoulli(reflection_key, 0.5, (batch, 1, 1))
    return jnp.where(reflected, turned[:, :, ::-1], turned)


def rotation(angle: jax.Array) -> jax.Array:
    """`[..., 2, 2]`: what turns the image counterclockwise, by radians `[...]`."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin], -1), jnp.stack([-sin, cos], -1)], -2)


def view(
    corners: jax.Array, sides: jax.Array, turns: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """Matrices `[B, 2, 3]` of windows, turned about their centres, seen as `size`.

    Args:
      corners, sides: `(y, x)` in pixels of the stored image, `[B, 2]`.
      turns: linear maps of places, `[B, 2, 2]`.
      size: `(H, W)` of the result.
    """
    linear = turns * (sides / jnp.float32(size))[:, None]
    centres = corners + sides / 2
    return about(linear, centres, jnp.float32(size) / 2)


def about(linear: jax.Array, there: jax.Array, here: jax.Array) -> jax.Array:
    """`[..., 2, 3]` with the linear part `[..., 2, 2]` that maps `here` to `there`."""
    # Products of floats, for which `@` is not exact on every device.
    offset = there - (linear * here[..., None, :]).sum(-1)
    return jnp.concatenate([linear, offset[..., None]], -1)


def compose(first: jax.Array, second: jax.Array) -> jax.Array:
    """The matrix that maps as `second` does and then as `first`, `[B, 2, 3]` all."""
    linear, offset = first[..., :2], first[..., 2:]
    product = (linear[..., None] * second[..., None, :, :]).sum(-2)
    return jnp.concatenate([product[..., :2], product[..., 2:] + offset], -1)
