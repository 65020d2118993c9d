"""Dense 3x3 convolution, the stem's.

Inside a loop, XLA's CPU backend falls back to a convolution gradient that is up to 70
times slower than outside one. A product with the gathered neighbourhoods (im2col) is as
fast as the convolution outside of loops, and stays so inside. Accelerators keep the
convolution.
"""

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.windows import windows


def conv3x3_reference(
    x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1
) -> jax.Array:
    """`[B, H, W, C]` with `[3, 3, C/groups, F]` to `[B, H', W', F]`.

    One pixel of zeros surrounds the map, so `H' = ceil(H / stride)`, as in PyTorch's
    symmetric padding, not `SAME`.
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def conv3x3_product(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """The same as one matrix product."""
    features = kernel.shape[-1]
    patches = jnp.concatenate(windows(x, stride), axis=-1)
    rows = patches.reshape(-1, patches.shape[-1])
    y = rows @ kernel.reshape(-1, features)
    return y.reshape(*patches.shape[:-1], features)


def conv3x3(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """The faster of the two on the platform that is traced for."""
    on_cpu = jax.default_backend() == "cpu"
    return (conv3x3_product if on_cpu else conv3x3_reference)(x, kernel, stride)
