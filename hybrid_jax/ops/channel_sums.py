"""Sums over batch and space, written so that XLA's CPU backend reads memory fastest.

XLA passes a sum over an array to a library, which reads the array once for each sum, at
half of the memory's speed, and takes only whole arrays: shifted ones are copied first.
XLA compiles an elementwise sum of a few terms itself, fused with the operations that
made the terms. So terms are folded before the library sums the rest. The comparison in
`_fold` keeps the fold from being an operation that the library knows.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import use_cpu_implementations
from hybrid_jax.ops.precision import at_least_float32

FOLD = 8  # largest number of terms that are folded; more take longer to compile


def sums_reference(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sums of `x` and of its squares by channel, float32 `[C]`."""
    x, axes = x.astype(at_least_float32(x.dtype)), tuple(range(x.ndim - 1))
    return x.sum(axes), (x * x).sum(axes)


def sums_folded(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute `sums_reference` in one pass over memory."""
    channels = x.shape[-1]
    terms = _divisor(x.size // channels, FOLD)
    x = x.astype(at_least_float32(x.dtype)).reshape(-1, terms, 1, channels)
    parts = [lax.index_in_dim(x, i, axis=1, keepdims=False) for i in range(terms)]
    shape = (len(parts[0]), 2, channels)
    is_first = lax.broadcasted_iota(jnp.int32, shape, 1) == 0

    def both(part: jax.Array) -> jax.Array:
        # Row 0 sums x, row 1 its squares. `lax` traces these many operations in a
        # fraction of the time that `jnp` takes.
        wide = (
            lax.broadcast_in_dim(x, shape, (0, 1, 2))
            for x in (part, lax.mul(part, part))
        )
        return lax.select(is_first, *wide)

    rows = [*map(both, parts)]
    total, squares = _fold(rows).sum(0)
    return total, squares


def channel_sums(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Compute `sums_reference` by the faster implementation for platform and shape."""
    foldable = _divisor(x.size // x.shape[-1], FOLD) >= 4
    folded = use_cpu_implementations() and foldable
    return (sums_folded if folded else sums_reference)(x)


def summed_products(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the sums of `a * b` over batch and space, float32 `[C]`.

    Args:
      a, b: `[B, H, W, C]`; either may be a slice of a larger map, which is not copied.
    """
    axis = max(range(3), key=lambda axis: _divisor(a.shape[axis], FOLD // 2))
    terms = _divisor(a.shape[axis], FOLD // 2)

    def split(x: jax.Array) -> list[jax.Array]:
        shape = (*x.shape[:axis], -1, terms, *x.shape[axis + 1 :])
        x = x.astype(at_least_float32(x.dtype)).reshape(shape)
        return [lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in range(terms)]

    pairs = zip(split(a), split(b), strict=True)
    return _fold([x * y for x, y in pairs]).sum((0, 1, 2))


def _fold(terms: list[jax.Array]) -> jax.Array:
    total = functools.reduce(lax.add, terms)
    return lax.select(total == total, total, jnp.full_like(total, jnp.nan))


def _divisor(length: int, most: int) -> int:
    return max(n for n in range(1, most + 1) if length % n == 0)
