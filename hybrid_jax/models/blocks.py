"""Residual blocks, one a letter of a stack string.

Every block maps `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]` and
reads its paper's equation: `x = shortcut(x) + branch(norm(x))`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid_jax.models.attention import RelativeAttention
from hybrid_jax.models.layers import (
    Conv1x1,
    DepthwiseConv,
    Shortcut,
    SqueezeExcite,
    average_pool,
    batch_norm,
    drop_path,
    layer_norm,
)
from hybrid_jax.ops.gelu import gelu

EXPANSION = 4  # of both blocks: hidden width over output width


class MBConv(nn.Module):
    """C: inverted residual with squeeze-excite (Sandler et al. 2018), pre-normalised.

    Norm, 1x1 to four times the *output* width, depthwise 3x3 (which carries the
    stride), squeeze-excite, 1x1 back.
    """

    features: int
    stride: int = 1
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        hidden = EXPANSION * self.features
        shortcut = Shortcut(self.features, self.stride, self.dtype, name="shortcut")(x)

        x = batch_norm(train, self.dtype, "pre_norm")(x)
        x = Conv1x1(hidden, use_bias=False, dtype=self.dtype, name="expand")(x)
        x = gelu(batch_norm(train, self.dtype, "expand_norm")(x))
        x = DepthwiseConv(self.stride, self.dtype, name="depthwise")(x)
        x = gelu(batch_norm(train, self.dtype, "depthwise_norm")(x))
        x = SqueezeExcite(self.features // 4, self.dtype, name="squeeze_excite")(x)
        x = Conv1x1(self.features, dtype=self.dtype, name="project")(x)
        return shortcut + drop_path(self.drop_path, train, "drop_path")(x)


class Transformer(nn.Module):
    """T: relative attention and an MLP, each pre-normalised (Dai et al. 2021)."""

    features: int
    stride: int = 1
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32
    attention: str = "pre"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        xavier = nn.initializers.xavier_uniform()

        shortcut = Shortcut(
            self.features, self.stride, self.dtype, xavier, name="shortcut"
        )(x)
        x = layer_norm(self.dtype, "attention_norm")(x)
        if self.stride == 2:
            x = average_pool(x)
        x = RelativeAttention(
            self.features, self.attention, self.dtype, name="attention"
        )(x)
        x = shortcut + drop_path(self.drop_path, train, "attention_drop_path")(x)

        shortcut = x
        x = layer_norm(self.dtype, "mlp_norm")(x)
        x = MLP(self.features, self.dtype, name="mlp")(x)
        return shortcut + drop_path(self.drop_path, train, "mlp_drop_path")(x)


class MLP(nn.Module):
    """Two dense layers over channels with a GELU between."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = {
            "dtype": self.dtype,
            "kernel_init": nn.initializers.xavier_uniform(),
            "bias_init": nn.initializers.normal(1e-6),
        }
        x = gelu(Conv1x1(EXPANSION * self.features, name="expand", **dense)(x))
        return Conv1x1(self.features, name="project", **dense)(x)


BLOCKS = {"C": MBConv, "T": Transformer}
