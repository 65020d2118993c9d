"""Depthwise 3x3 convolution, the operation that decides a CPU's speed.

XLA's CPU backend has no fast path for a convolution with one group a channel, least of
all for its gradients. Nine shifted multiply-adds of the padded map are the same sum,
and so are its gradients. Accelerators keep the convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp

from hybrid_jax.ops.backend import handwritten
from hybrid_jax.ops.channel_sums import summed_products
from hybrid_jax.ops.conv import convolution_reference
from hybrid_jax.ops.conv_patches import margins, padded, windows


def depthwise_reference(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """`[B, H, W, C]` with `[3, 3, 1, C]`: `[B, ceil(H/stride), ceil(W/stride), C]`."""
    return convolution_reference(x, kernel, stride, padding, groups=x.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_shifted(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """The same as nine shifted products; keeps the padded `x` for backward."""
    return _forward(x, kernel, stride, padding)[0]


def _forward(x, kernel, stride, padding):
    # What made x ends in the padded copy, and x itself need not be written.
    x_padded = padded(x, stride, padding=padding)
    height, width = (-(-n // stride) for n in x.shape[1:3])
    seen = windows(x_padded, height, width, stride)
    return _weighted(seen, kernel), (x_padded, kernel, x.shape)


def _weighted(seen: list[jax.Array], kernel: jax.Array) -> jax.Array:
    taps = kernel.reshape(9, -1)
    return sum(window * tap for window, tap in zip(seen, taps, strict=True))


def _backward(stride, padding, residuals, dy):
    x_padded, kernel, shape = residuals
    if stride == 1:  # where the two paddings are one
        seen = windows(padded(dy, 1), *shape[1:3], 1)
        dx = _weighted(seen, kernel[::-1, ::-1])
    else:
        dx = _spread(dy, kernel, shape, padding)
    seen = windows(x_padded, *dy.shape[1:3], stride)
    gradient = jnp.stack([summed_products(window, dy) for window in seen])
    return dx, gradient.reshape(kernel.shape).astype(kernel.dtype)


depthwise_shifted.defvjp(_forward, _backward)


def depthwise(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """The faster of the two on the platform that is traced for."""
    form = depthwise_shifted if handwritten() else depthwise_reference
    return form(x, kernel, stride, padding)


def _spread(
    dy: jax.Array, kernel: jax.Array, shape: tuple[int, ...], padding: str
) -> jax.Array:
    """The input's gradient under a stride of 2, in sub-pixel form.

    The inputs of each phase, even or odd row and column, are seen through taps of their
    own; the four maps are interleaved.
    """
    rows, columns = (margins(n, 3, 2, padding)[0] for n in shape[1:3])
    tall, wide = dy.shape[1:3]
    dy = jnp.pad(dy, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def phase(row: int, column: int) -> jax.Array:
        return sum(
            dy[:, 1 + down : 1 + down + tall, 1 + right : 1 + right + wide]
            * kernel[i, j, 0]
            for down, i in _taps(row, rows)
            for right, j in _taps(column, columns)
        )

    pairs = [jnp.stack([phase(row, 0), phase(row, 1)], 3) for row in range(2)]
    whole = jnp.stack(pairs, 2).reshape(shape[0], 2 * tall, 2 * wide, -1)
    return whole[:, : shape[1], : shape[2]]


def _taps(phase: int, front: int) -> list[tuple[int, int]]:
    """Along an axis, the outputs that see the inputs of a phase: offset and tap.

    Output `i` sees input `2i + tap - front`; so input `2m + phase` is seen by output
    `m + offset` for `2 * offset = phase + front - tap`.
    """
    twice = [(phase + front - tap, tap) for tap in range(3)]
    return [(offset // 2, tap) for offset, tap in twice if offset % 2 == 0]
