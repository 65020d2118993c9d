"""Move images: around a torus, before a camera, by turns and reflections.

Shapes: `B` images of height `H`, width `W` and `C` channels. A shift is `[B, 2]`,
pixels down and to the right.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

TURNED, MIRRORED = "turned by 180", "mirrored"


def shift_cyclic(images: jax.Array, shifts: jax.Array) -> jax.Array:
    """Shift images `[B, H, W, C]` by whole pixels around a torus."""
    return jax.vmap(lambda image, shift: jnp.roll(image, shift, (0, 1)))(images, shifts)


def shift_before_camera(images: jax.Array, shifts: jax.Array) -> jax.Array:
    """Shift images as a moving camera would: by any offset within a larger scene.

    The scene continues the image by reflection at its edges, so that the image keeps
    its scale. Between pixels, the scene is interpolated bilinearly. At a whole shift,
    the derivative is that from the right.

    Args:
      images: `[B, H, W, C]`.
      shifts: float `[B, 2]`.

    Source: Gruver et al. 2023, The Lie derivative for measuring learned equivariance.
    """

    def move(image: jax.Array, shift: jax.Array) -> jax.Array:
        return _shift_axis(_shift_axis(image, shift[0], 0), shift[1], 1)

    return jax.vmap(move)(images, shifts)


def _shift_axis(image: jax.Array, shift: jax.Array, axis: int) -> jax.Array:
    whole = jnp.floor(shift)
    part = shift - lax.stop_gradient(whole)
    rows = jnp.arange(image.shape[axis]) - whole.astype(jnp.int32)

    def read(rows: jax.Array) -> jax.Array:
        return jnp.take(image, _reflect(rows, image.shape[axis]), axis)

    return (1 - part) * read(rows) + part * read(rows - 1)


def _reflect(rows: jax.Array, length: int) -> jax.Array:
    """Reflect numbers of rows at the first and at the last row."""
    period = max(2 * (length - 1), 1)
    rows = rows % period
    return jnp.minimum(rows, period - rows)


def symmetries(height: int, width: int) -> dict[str, Callable[[Any], jax.Array]]:
    """Return the turns and reflections that keep an image's shape, by name.

    Each maps images `[B, H, W, C]`. Only square images have quarter turns.
    """
    found: dict[str, Callable[[Any], jax.Array]] = {}
    found[TURNED] = partial(jnp.rot90, k=2, axes=(1, 2))
    if height == width:
        found["turned by 90"] = partial(jnp.rot90, k=1, axes=(1, 2))
        found["turned by 270"] = partial(jnp.rot90, k=3, axes=(1, 2))
    return found | {
        MIRRORED: partial(jnp.flip, axis=2),
        "upside down": partial(jnp.flip, axis=1),
    }
