"""Partition maps into windows of self-attention (MaxViT, Tu et al. 2022, section 3.3).

With a window of `h` by `w`, a *block* is `h` by `w` neighboring positions and a *grid*
is `h` by `w` positions at equal distances over the map. Both are `[B * n, h, w, C]` for
`n` windows per image. A map that the window does not divide is padded with positions
that are masked out of attention.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.models.strides import Size


@dataclasses.dataclass(frozen=True)
class Windows:
    """A map in windows.

    Attributes:
      x: `[B * n, h, w, C]`.
      mask: bool `[B * n, h * w]`, False for padding; None without padding.
      merge: function from windows of any number of channels to a map `[B, H, W, ...]`.
    """

    x: jax.Array
    mask: jax.Array | None
    merge: Callable[[jax.Array], jax.Array]


def whole_map(x: jax.Array, window: Size | None = None) -> Windows:
    """Return the map as its only window."""
    return Windows(x, None, lambda y: y)


def block_partition(x: jax.Array, window: Size) -> Windows:
    """Partition into windows of neighbors: local attention."""
    return _partition(x, window, lambda n, size: (n, size), (0, 1, 3, 2, 4, 5))


def grid_partition(x: jax.Array, window: Size) -> Windows:
    """Partition into windows that each reach over the map: sparse global attention."""
    return _partition(x, window, lambda n, size: (size, n), (0, 2, 4, 1, 3, 5))


PARTITIONS: dict[str, Callable[..., Windows]] = {
    "whole": whole_map,
    "block": block_partition,
    "grid": grid_partition,
}


def _partition(
    x: jax.Array,
    window: Size,
    split_axis: Callable[[int, int], tuple[int, int]],
    order: tuple[int, ...],
) -> Windows:
    """Split both sides of a map by `split_axis(count, size)`; move windows to front."""
    batch, height, width, _ = x.shape
    counts = -(-height // window[0]), -(-width // window[1])
    full = counts[0] * window[0], counts[1] * window[1]
    padding = ((0, 0), (0, full[0] - height), (0, full[1] - width), (0, 0))

    def split(x: Any) -> Any:  # of a NumPy array too, which stays a constant
        rows, columns = map(split_axis, counts, window)
        x = x.reshape(x.shape[0], *rows, *columns, x.shape[-1])
        return x.transpose(order).reshape(-1, *window, x.shape[-1])

    def merge(y: jax.Array) -> jax.Array:
        y = y.reshape(batch, *counts, *window, y.shape[-1])
        y = y.transpose(np.argsort(order))
        return y.reshape(batch, *full, y.shape[-1])[:, :height, :width]

    if full == (height, width):
        return Windows(split(x), None, merge)
    mask = split(np.pad(np.ones((1, height, width, 1), bool), padding))
    mask = jnp.tile(mask.reshape(len(mask), -1), (batch, 1))
    return Windows(split(jnp.pad(x, padding)), mask, merge)
