"""Dense convolution with a small odd kernel: in the stem, and in block attention.

Inside a loop, XLA's CPU backend falls back to a convolution gradient that is up to 70
times slower than outside one. A product with the gathered neighborhoods (im2col) is as
fast as the convolution outside of loops, and stays so inside. Accelerators use the
convolution. So do CPUs where nothing is differentiated and the neighborhoods are many
times the size of the map.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import use_cpu_implementations
from hybrid_jax.ops.conv_patches import pad_map, tap_padding, tap_slices


def convolution_reference(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: str = "symmetric",
    groups: int = 1,
) -> jax.Array:
    """Convolve `[B, H, W, C]` with `[k, k, C/groups, F]` to `[B, H', W', F]`.

    `H' = ceil(H / stride)`; zeros are padded by `conv_patches.tap_padding`.
    """
    size = kernel.shape[0]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[tap_padding(n, size, stride, padding) for n in x.shape[1:3]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def convolution_product(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """Compute `convolution_reference` as one matrix product."""
    size, features = kernel.shape[0], kernel.shape[-1]
    height, width = (-(-n // stride) for n in x.shape[1:3])
    x = pad_map(x, stride, size, padding)
    patches = jnp.concatenate(tap_slices(x, height, width, stride, size), axis=-1)
    rows = patches.reshape(-1, patches.shape[-1])
    y = rows @ kernel.reshape(-1, features)
    return y.reshape(*patches.shape[:-1], features)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution_inferred(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """Compute the reference where nothing is differentiated, else the product."""
    return convolution_reference(x, kernel, stride, padding)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: str
) -> tuple[jax.Array, Callable]:
    product = partial(convolution_product, stride=stride, padding=padding)
    return jax.vjp(product, x, kernel)


def _backward(stride: int, padding: str, gradient: Callable, dy: jax.Array) -> Any:
    return gradient(dy)


convolution_inferred.defvjp(_forward, _backward)


def convolution(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """Compute a convolution by the faster implementation for the platform."""
    if not use_cpu_implementations():
        return convolution_reference(x, kernel, stride, padding)
    # Measured: half the time for the stem's 64 channels, none won on images or strides.
    if stride == 1 and x.shape[-1] >= 16:
        return convolution_inferred(x, kernel, stride, padding)
    return convolution_product(x, kernel, stride, padding)
