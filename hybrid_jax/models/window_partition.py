"""Maps cut into parts that attend to themselves (MaxViT, Tu et al. 2022, section 3.3).

Of a map and a window of `h` by `w`, a *block* is `h` by `w` neighbouring positions and
a *grid* is `h` by `w` positions spread evenly over the map. Both are `[B * n, h, w, C]`
for `n` parts an image. A map that the window does not divide is filled up with
positions that nothing may attend to.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.models.strides import Size


@dataclasses.dataclass(frozen=True)
class Parts:
    """A map in parts.

    Attributes:
      x: `[B * n, h, w, C]`.
      real: bool `[B * n, h * w]`, False for positions that only fill up; None if all
        are real.
      join: puts parts of any number of channels together to a map `[B, H, W, ...]`.
    """

    x: jax.Array
    real: jax.Array | None
    join: Callable[[jax.Array], jax.Array]


def whole(x: jax.Array, window: Size | None = None) -> Parts:
    """The map as its only part, whatever the window."""
    return Parts(x, None, lambda y: y)


def blocks(x: jax.Array, window: Size) -> Parts:
    """Parts of neighbours: local attention."""
    return _cut(x, window, lambda n, size: (n, size), (0, 1, 3, 2, 4, 5))


def grid(x: jax.Array, window: Size) -> Parts:
    """Parts of one position from every corner of the map: sparse global attention."""
    return _cut(x, window, lambda n, size: (size, n), (0, 2, 4, 1, 3, 5))


PARTITIONS = {"whole": whole, "block": blocks, "grid": grid}


def _cut(x: jax.Array, window: Size, axes: Callable, order: tuple[int, ...]) -> Parts:
    """Splits both sides of a map by `axes(count, window)`, and moves parts to front."""
    batch, height, width, _ = x.shape
    counts = -(-height // window[0]), -(-width // window[1])
    full = counts[0] * window[0], counts[1] * window[1]
    fill = ((0, 0), (0, full[0] - height), (0, full[1] - width), (0, 0))

    def cut(x):
        rows, columns = (axes(n, size) for n, size in zip(counts, window, strict=True))
        x = x.reshape(x.shape[0], *rows, *columns, x.shape[-1])
        return x.transpose(order).reshape(-1, *window, x.shape[-1])

    def join(y):
        split = (batch, *counts, *window, y.shape[-1])
        y = y.reshape(split).transpose(np.argsort(order))
        return y.reshape(batch, *full, y.shape[-1])[:, :height, :width]

    if full == (height, width):
        return Parts(cut(x), None, join)
    real = cut(np.pad(np.ones((1, height, width, 1), bool), fill))
    real = jnp.tile(real.reshape(len(real), -1), (batch, 1))
    return Parts(cut(jnp.pad(x, fill)), real, join)
