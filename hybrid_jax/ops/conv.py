"""Dense convolution with a small odd kernel: in stems, residual and attention blocks.

Inside a loop, XLA's CPU backend computes the kernel's gradient up to 70 times slower
than outside. A product with the gathered neighborhoods (im2col) is as fast as the
convolution outside of loops, and stays so inside, but the neighborhoods are many times
the size of the map. Without a stride, the convolution itself and the input's gradient
are fast, so only the kernel's gradient needs products. With enough channels and pixels,
Winograd's form of it (`winograd`) is faster still. Accelerators use the convolution and
XLA's gradients.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import use_cpu_implementations
from hybrid_jax.ops.conv_patches import pad_map, tap_padding, tap_slices
from hybrid_jax.ops.derivatives import define_derivatives, tangent_of_bilinear
from hybrid_jax.ops.winograd import convolution_winograd


def convolution_reference(
    x: jax.Array,
    kernel: jax.Array,
    stride: int = 1,
    padding: str = "symmetric",
    groups: int = 1,
) -> jax.Array:
    """Convolve `[B, H, W, C]` with `[k, k, C/groups, F]` to `[B, H', W', F]`.

    `H' = ceil(H / stride)`; `conv_patches` explains the values of `padding`.
    """
    size = kernel.shape[0]
    pads = [tap_padding(n, size, stride, padding) for n in x.shape[1:3]]
    if padding == "circular":
        x, pads = pad_map(x, stride, size, padding), [(0, 0), (0, 0)]
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=pads,
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


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def convolution_unstrided(
    x: jax.Array, kernel: jax.Array, padding: str = "symmetric"
) -> jax.Array:
    """Compute `convolution_reference` at stride 1; gradients are fast inside loops.

    The input's gradient is a convolution with the flipped kernel. The kernel's gradient
    is one matrix product per tap. Only the map is saved, not its neighborhoods.
    """
    return convolution_reference(x, kernel, 1, padding)


def _forward(
    x: jax.Array, kernel: jax.Array, padding: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolution_reference(x, kernel, 1, padding), (x, kernel)


def _backward(
    padding: str, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    size, _, channels, features = kernel.shape
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    dx = convolution_reference(dy, turned, 1, padding)
    height, width = x.shape[1:3]
    padded = pad_map(x, 1, size, padding)
    taps = tap_slices(padded, height, width, stride=1, size=size)
    rows = dy.reshape(-1, features)
    dkernel = jnp.stack([tap.reshape(-1, channels).T @ rows for tap in taps])
    return dx, dkernel.reshape(kernel.shape)


_tangent = tangent_of_bilinear(
    lambda x, kernel, padding: convolution_reference(x, kernel, 1, padding)
)
define_derivatives(convolution_unstrided, _forward, _tangent, _backward)


def convolution(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "symmetric"
) -> jax.Array:
    """Compute `convolution_reference` by the faster implementation for the platform."""
    if not use_cpu_implementations():
        return convolution_reference(x, kernel, stride, padding)
    # Measured: with 16 to 256 channels, half to nine tenths of the product's time. On
    # images, and with strides, nothing was faster than the product.
    if stride > 1 or x.shape[-1] < 16:
        return convolution_product(x, kernel, stride, padding)
    if _is_faster_by_winograd(x, kernel):
        return convolution_winograd(x, kernel, padding)
    return convolution_unstrided(x, kernel, padding)


def _is_faster_by_winograd(x: jax.Array, kernel: jax.Array) -> bool:
    """Return whether Winograd's form applies to a convolution without stride, and pays.

    Measured: it takes 0.4 to 0.8 of the time of the other form. With fewer channels or
    tiles, its sums cost more than it saves.
    """
    size, _, channels, features = kernel.shape
    images, height, width, _ = x.shape
    tiles = images * -(-height // 2) * -(-width // 2)
    is_exact = size == 3 and x.dtype in (jnp.float32, jnp.float64)
    return is_exact and channels * features >= 512 and tiles >= 128
