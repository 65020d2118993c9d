"""Depthwise 3x3 convolution, the operation that decides a CPU's speed.

XLA's CPU backend has no fast path for a convolution with one group a channel, least of
all for its gradients. Nine shifted multiply-adds of the padded map are the same sum.
Accelerators keep the convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.choice import handwritten
from hybrid_jax.ops.convolution import convolution_reference
from hybrid_jax.ops.windows import windows

# The weight gradient goes through the batch in pieces of about this size, so that its
# nine shifted copies stay in a core's cache: 4 to 8 times faster than all at once.
CACHE_BYTES = 1 << 20


def depthwise_reference(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """`[B, H, W, C]` with `[3, 3, 1, C]`: `[B, ceil(H/stride), ceil(W/stride), C]`."""
    return convolution_reference(x, kernel, stride, padding, groups=x.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_shifted(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """The same as nine shifted products; keeps only `x` and `kernel` for backward."""
    return _weighted_windows(x, kernel, stride, padding)


def _forward(x, kernel, stride, padding):
    return _weighted_windows(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, residuals, dy):
    x, kernel = residuals
    if stride == 1:  # where the two paddings are one
        dx = _weighted_windows(dy, kernel[::-1, ::-1], 1, padding)
    else:
        (dx,) = jax.vjp(lambda x: _weighted_windows(x, kernel, stride, padding), x)[1](
            dy
        )
    gradient = _kernel_gradient(x, dy, stride, padding)
    return dx, gradient.reshape(kernel.shape).astype(kernel.dtype)


depthwise_shifted.defvjp(_forward, _backward)


def depthwise(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """The faster of the two on the platform that is traced for."""
    form = depthwise_shifted if handwritten() else depthwise_reference
    return form(x, kernel, stride, padding)


def _weighted_windows(
    x: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> jax.Array:
    taps = kernel.reshape(9, -1)
    seen = windows(x, stride, padding=padding)
    return sum(window * tap for window, tap in zip(seen, taps, strict=True))


def _kernel_gradient(
    x: jax.Array, dy: jax.Array, stride: int, padding: str
) -> jax.Array:
    """`[9, C]` float32: each tap's window times `dy`, summed over batch and space."""

    def add_piece(total, piece):
        x, dy = piece
        sums = [
            (window * dy).sum((0, 1, 2), dtype=jnp.float32)
            for window in windows(x, stride, padding=padding)
        ]
        return total + jnp.stack(sums), None

    pieces = _pieces(x)
    split = [a.reshape(pieces, -1, *a.shape[1:]) for a in (x, dy)]
    zeros = jnp.zeros((9, x.shape[-1]), jnp.float32)
    return lax.scan(add_piece, zeros, split)[0]


def _pieces(x: jax.Array) -> int:
    """The smallest divisor of the batch that makes pieces of `CACHE_BYTES` or less."""
    batch, size = x.shape[0], x.size * x.dtype.itemsize
    divisors = (n for n in range(1, batch + 1) if batch % n == 0)
    return next((n for n in divisors if size <= n * CACHE_BYTES), batch)
