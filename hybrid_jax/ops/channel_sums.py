"""Sums over batch and space, in the form that XLA's CPU backend reads memory fastest.

XLA hands a sum over an array to a library, which reads it once a sum, at half of the
memory's speed, and takes nothing but whole arrays: what is shifted is copied first. A
sum of a few terms, elementwise, XLA compiles itself, with whatever made the terms. So
the terms are folded before the library gets what is left of them. The comparison in
`_folded` is there to be no operation that the library knows.
"""

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import handwritten

FOLD = 16  # terms, at most, of a sum that is folded


def sums_reference(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Float32 `[C]`: the sums of `x` and of its squares over all axes but the last."""
    x, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    return x.sum(axes), (x * x).sum(axes)


def sums_folded(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same, both in one pass."""
    channels = x.shape[-1]
    terms = _divisor(x.size // channels, FOLD)
    x = x.astype(jnp.float32).reshape(-1, terms, 1, channels)
    first = (jnp.arange(2) == 0)[:, None]  # of the two sums
    rows = [jnp.where(first, x[:, i], x[:, i] * x[:, i]) for i in range(terms)]
    return tuple(_folded(rows).sum(0))


def sums(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The faster of the two on the platform that is traced for, for its shape."""
    foldable = _divisor(x.size // x.shape[-1], FOLD) >= 4
    return (sums_folded if handwritten() and foldable else sums_reference)(x)


def summed_products(a: jax.Array, b: jax.Array) -> jax.Array:
    """Float32 `[C]`: `[B, H, W, C]` times another, summed over batch and space.

    Either may be a window of a larger map, and is read where it lies.
    """
    axis = max(range(3), key=lambda axis: _divisor(a.shape[axis], FOLD // 2))
    terms = _divisor(a.shape[axis], FOLD // 2)

    def split(x):
        shape = (*x.shape[:axis], -1, terms, *x.shape[axis + 1 :])
        x = x.astype(jnp.float32).reshape(shape)
        return [lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in range(terms)]

    pairs = zip(split(a), split(b), strict=True)
    return _folded([x * y for x, y in pairs]).sum((0, 1, 2))


def _folded(terms: list[jax.Array]) -> jax.Array:
    total = sum(terms)
    return jnp.where(total == total, total, jnp.nan)


def _divisor(length: int, most: int) -> int:
    return max(n for n in range(1, most + 1) if length % n == 0)
