"""Layers that more than one block uses.

Shapes: `B` batch, `H W` map, `C` channels. Padding is symmetric, as in PyTorch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer

from hybrid_jax.ops.convolution import conv3x3
from hybrid_jax.ops.depthwise import depthwise

# Convolutions keep the variance of gradients (fan-out), as EfficientNet initialises.
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# A depthwise kernel's fan-out is its nine taps, whatever the number of channels.
depthwise_init = nn.initializers.normal((2.0 / 9) ** 0.5)


def batch_norm(train: bool, dtype: jnp.dtype, name: str) -> nn.BatchNorm:
    """Batch norm with PyTorch's constants; statistics and parameters in float32."""
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        name=name,
    )


def layer_norm(dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    """Layer norm over channels."""
    return nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=name)


def drop_path(rate: float, train: bool, name: str) -> nn.Dropout:
    """Stochastic depth (Huang et al. 2016): drops the branch of an image as a whole."""
    return nn.Dropout(
        rate, broadcast_dims=(1, 2, 3), deterministic=not train, name=name
    )


def average_pool(x: jax.Array) -> jax.Array:
    """2x2 means, `[B, H, W, C]` to `[B, ceil(H/2), ceil(W/2), C]`.

    The last row and column of an odd map are means of the pixels that are there. A
    reshape and a mean of four are several times faster than `reduce_window`.
    """
    batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    x = x.reshape(batch, -(-height // 2), 2, -(-width // 2), 2, channels)
    return x.mean((2, 4))


class Conv1x1(nn.Dense):
    """A 1x1 convolution as one matrix product over all positions.

    Flattening the map first is up to 4 times faster on a CPU than the same product of a
    4-D array, and free elsewhere.
    """

    kernel_init: Initializer = conv_init

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, features]`."""
        y = super().__call__(x.reshape(-1, x.shape[-1]))
        return y.reshape(*x.shape[:-1], self.features)


class Conv3x3(nn.Module):
    """A dense 3x3 convolution, no bias."""

    features: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]`."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", conv_init, shape, jnp.float32)
        return conv3x3(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


class DepthwiseConv(nn.Module):
    """3x3 convolution of each channel by itself, no bias."""

    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), C]`."""
        shape = (3, 3, 1, x.shape[-1])
        kernel = self.param("kernel", depthwise_init, shape, jnp.float32)
        return depthwise(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


class SqueezeExcite(nn.Module):
    """Channel gates from the pooled map (Hu et al. 2018)."""

    hidden: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to the same."""
        gate = x.mean((1, 2), keepdims=True)
        gate = nn.silu(Conv1x1(self.hidden, dtype=self.dtype, name="reduce")(gate))
        gate = Conv1x1(x.shape[-1], dtype=self.dtype, name="expand")(gate)
        return x * nn.sigmoid(gate)


class Shortcut(nn.Module):
    """What a residual branch is added to: pooled if strided, projected if wider."""

    features: int
    stride: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = conv_init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]`."""
        if self.stride == 2:
            x = average_pool(x)
        if x.shape[-1] != self.features:
            x = Conv1x1(
                self.features,
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                name="project",
            )(x)
        return x
