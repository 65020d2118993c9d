"""Dense convolution with a small odd kernel: the stem's, and block attention's.

Inside a loop, XLA's CPU backend falls back to a convolution gradient that is up to 70
times slower than outside one. A product with the gathered neighbourhoods (im2col) is as
fast as the convolution outside of loops, and stays so inside. Accelerators keep the
convolution, and so do CPUs where nothing is differentiated and neighbourhoods are many
times the map.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import handwritten
from hybrid_jax.ops.conv_patches import margins, padded, windows


def convolution_reference(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: str = "symmetric",
    groups: int = 1,
) -> jax.Array:
    """`[B, H, W, C]` with `[k, k, C/groups, F]` to `[B, H', W', F]`.

    `H' = ceil(H / stride)`, and the margins are those of `windows.margins`.
    """
    size = kernel.shape[0]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[margins(length, size, stride, padding) for length in x.shape[1:3]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def convolution_product(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """The same as one matrix product."""
    size, features = kernel.shape[0], kernel.shape[-1]
    height, width = (-(-n // stride) for n in x.shape[1:3])
    x = padded(x, stride, size, padding)
    patches = jnp.concatenate(windows(x, height, width, stride, size), axis=-1)
    rows = patches.reshape(-1, patches.shape[-1])
    y = rows @ kernel.reshape(-1, features)
    return y.reshape(*patches.shape[:-1], features)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution_inferred(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """The reference where nothing is differentiated, else the product."""
    return convolution_reference(x, kernel, stride, padding)


def _forward(x, kernel, stride, padding):
    return jax.vjp(lambda *of: convolution_product(*of, stride, padding), x, kernel)


def _backward(stride, padding, gradient, dy):
    return gradient(dy)


convolution_inferred.defvjp(_forward, _backward)


def convolution(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """The faster one on the platform that is traced for."""
    if not handwritten():
        return convolution_reference(x, kernel, stride, padding)
    # Measured: half the time for the stem's 64 channels, none won on images or strides.
    if stride == 1 and x.shape[-1] >= 16:
        return convolution_inferred(x, kernel, stride, padding)
    return convolution_product(x, kernel, stride, padding)
