"""Depthwise 3x3 convolution, the operation that decides a CPU's speed.

XLA's CPU backend has no fast path for a convolution with one group per channel, least
of all for its gradients. Nine shifted multiply-adds of the padded map compute the same
sum, and nine more its gradients. They are compiled apart from what makes their maps,
which XLA would otherwise compute anew for single taps. A GPU uses the sum too, but not
for gradients. A TPU uses the convolution, which XLA fuses there with the operations
around it.
"""

import functools
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import target_backend
from hybrid_jax.ops.channel_sums import summed_products
from hybrid_jax.ops.conv import convolution_reference
from hybrid_jax.ops.conv_patches import pad_map, tap_padding, tap_slices
from hybrid_jax.ops.derivatives import define_derivatives
from hybrid_jax.ops.fusion import compiled_apart

Residuals = tuple[jax.Array, jax.Array, tuple[int, ...]]


def depthwise_reference(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """Convolve `[B, H, W, C]` with `[3, 3, 1, C]`, channel by channel.

    Returns:
      `[B, ceil(H/stride), ceil(W/stride), C]`.
    """
    return convolution_reference(x, kernel, stride, padding, groups=x.shape[-1])


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def depthwise_shifted(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """Compute `depthwise_reference` as nine products; save the padded `x`."""
    return _forward(x, kernel, stride, padding)[0]


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> tuple[jax.Array, Residuals]:
    # XLA writes x into the padded copy directly, and x itself need not be stored.
    x_padded = pad_map(x, stride, padding=padding)
    height, width = (-(-n // stride) for n in x.shape[1:3])
    y = _convolve_padded(x_padded, kernel, (height, width), stride)
    return y, (x_padded, kernel, x.shape)


@partial(compiled_apart, static_argnums=(2, 3))
def _convolve_padded(
    x_padded: jax.Array, kernel: jax.Array, size: tuple[int, int], stride: int
) -> jax.Array:
    return _weighted_sum(tap_slices(x_padded, *size, stride), kernel)


def _weighted_sum(slices: list[jax.Array], kernel: jax.Array) -> jax.Array:
    weights, shape = kernel.reshape(9, -1), slices[0].shape
    products = [
        window
        * lax.broadcast_in_dim(
            lax.index_in_dim(weights, i, keepdims=False), shape, (3,)
        )
        for i, window in enumerate(slices)
    ]
    return functools.reduce(lax.add, products)


def _tangent(
    stride: int, padding: str, residuals: Residuals, dx: jax.Array, dkernel: jax.Array
) -> jax.Array:
    x_padded, kernel, shape = residuals
    height, width = (-(-n // stride) for n in shape[1:3])
    moved = tap_slices(pad_map(dx, stride, padding=padding), height, width, stride)
    slices = tap_slices(x_padded, height, width, stride)
    return _weighted_sum(moved, kernel) + _weighted_sum(slices, dkernel)


def _backward(
    stride: int, padding: str, residuals: Residuals, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x_padded, kernel, shape = residuals
    if stride == 1:
        dy = pad_map(dy, 1, padding=padding)
    return _gradients(x_padded, kernel, dy, shape, stride, padding)


@partial(compiled_apart, static_argnums=(3, 4, 5))
def _gradients(
    x_padded: jax.Array,
    kernel: jax.Array,
    dy: jax.Array,
    shape: tuple[int, ...],
    stride: int,
    padding: str,
) -> tuple[jax.Array, jax.Array]:
    """Return both gradients; without a stride, `dy` is padded, which saves a pass."""
    if stride == 1:
        slices = tap_slices(dy, shape[1], shape[2], stride=1)
        dx = _weighted_sum(slices, kernel[::-1, ::-1])
        dy = slices[4]
    else:
        dx = _strided_input_gradient(dy, kernel, shape, padding)
    slices = tap_slices(x_padded, dy.shape[1], dy.shape[2], stride)
    dkernel = jnp.stack([summed_products(window, dy) for window in slices])
    return dx, dkernel.reshape(kernel.shape).astype(kernel.dtype)


define_derivatives(depthwise_shifted, _forward, _tangent, _backward)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def depthwise_fusible(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """Compute `depthwise_reference` as nine products; by convolution in training.

    A GPU's convolution is a library call that reads and writes memory. XLA can fuse
    products into the kernels before and after them. In a derivative, XLA would keep
    intermediates of the products in memory, in float32, so both the value and the
    gradients are convolutions there.
    """
    height, width = (-(-n // stride) for n in x.shape[1:3])
    x_padded = pad_map(x, stride, padding=padding)
    return _weighted_sum(tap_slices(x_padded, height, width, stride), kernel)


@depthwise_fusible.defjvp
def _differentiate_convolution(
    stride: int, padding: str, primals: tuple, tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    convolve = partial(depthwise_reference, stride=stride, padding=padding)
    return jax.jvp(convolve, primals, tangents)


def _strided_input_gradient(
    dy: jax.Array, kernel: jax.Array, shape: tuple[int, ...], padding: str
) -> jax.Array:
    """Return the input's gradient at stride 2, in sub-pixel form.

    Each phase of the input (even or odd row and column) is read by its own taps. The
    gradients of the four phases are interleaved.
    """
    rows, columns = (tap_padding(n, 3, 2, padding)[0] for n in shape[1:3])
    tall, wide = dy.shape[1:3]
    dy = pad_map(dy, 1, padding=padding)

    def phase(row: int, column: int) -> jax.Array:
        products = [
            dy[:, 1 + down : 1 + down + tall, 1 + right : 1 + right + wide]
            * kernel[i, j, 0]
            for down, i in _phase_taps(row, rows)
            for right, j in _phase_taps(column, columns)
        ]
        return functools.reduce(jnp.add, products)

    pairs = [jnp.stack([phase(row, 0), phase(row, 1)], 3) for row in range(2)]
    whole = jnp.stack(pairs, 2).reshape(shape[0], 2 * tall, 2 * wide, -1)
    return whole[:, : shape[1], : shape[2]]


def _phase_taps(phase: int, front: int) -> list[tuple[int, int]]:
    """List outputs along an axis that read inputs of a phase, as offset and tap.

    Output `i` reads input `2i + tap - front`; so input `2m + phase` is read by output
    `m + offset` for `2 * offset = phase + front - tap`.
    """
    twice = [(phase + front - tap, tap) for tap in range(3)]
    return [(offset // 2, tap) for offset, tap in twice if offset % 2 == 0]


# By platform; all other platforms use the reference.
FORMS = {"cpu": depthwise_shifted, "gpu": depthwise_fusible}


def depthwise(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """Compute `depthwise_reference` by the faster implementation for the platform."""
    form = FORMS.get(target_backend(), depthwise_reference)
    return form(x, kernel, stride, padding)
