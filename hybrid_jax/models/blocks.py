"""Residual blocks, one a letter of a stack string.

Every block maps `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]` and
reads its paper's equation: `x = shortcut(x) + branch(norm(x))`. What the papers and
releases do differently inside is the block's recipe.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid_jax.models.attention import RelativeAttention
from hybrid_jax.models.block_config import PAPER, Recipe
from hybrid_jax.models.layers import (
    ACTIVATIONS,
    POOLS,
    BatchNorm,
    BlockAttention,
    Conv1x1,
    DepthwiseConv,
    DropPath,
    Shortcut,
    SqueezeExcite,
    average_pool,
    layer_norm,
)
from hybrid_jax.models.local_attention import LocalAttention
from hybrid_jax.models.strides import Size
from hybrid_jax.models.window_partition import PARTITIONS

EXPANSION = 4  # of all blocks: hidden width over output (or input) width


class MBConv(nn.Module):
    """C: inverted residual with squeeze-excite (Sandler et al. 2018), pre-normalised.

    Norm, 1x1 to four times the width, depthwise 3x3 (which carries the stride), gate,
    1x1 back. B has block attention for its gate (Woo et al. 2018). S has local
    self-attention in place of the depthwise convolution (Ramachandran et al. 2019),
    pooled if strided.

    Attributes:
      spatial: what mixes positions, `convolution` or `attention`.
      gate: what weighs the hidden map, `squeeze_excite` or `block_attention`.
    """

    features: int
    stride: int = 1
    drop_path: float | jax.Array = 0.0
    recipe: Recipe = PAPER
    dtype: jnp.dtype = jnp.float32
    spatial: str = "convolution"
    gate: str = "squeeze_excite"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        recipe = self.recipe
        norm = partial(BatchNorm, recipe.batch_norm_epsilon, dtype=self.dtype)
        activated = partial(norm, activation=recipe.activation)
        product = partial(Conv1x1, dtype=self.dtype)

        shortcut = Shortcut(
            self.features,
            self.stride,
            recipe.pool,
            recipe.conv_bias,
            dtype=self.dtype,
            name="shortcut",
        )(x)
        wide = self.features if recipe.expanded == "output" else x.shape[-1]
        first = activated if recipe.pre_activation else norm
        x = first(name="pre_norm")(x, train)
        stride = self.stride
        if recipe.stride_in == "pool" and stride == 2:
            x, stride = average_pool(x), 1
        x = product(EXPANSION * wide, use_bias=False, name="expand")(x)
        x = activated(name="expand_norm")(x, train)
        x = self._mix(x, stride)
        spatial_norm = activated(name="spatial_norm")
        if recipe.gate_before_norm:
            x = spatial_norm(self._gated(x, train), train)
        else:
            x = self._gated(spatial_norm(x, train), train)
        x = product(self.features, use_bias=recipe.conv_bias, name="project")(x)
        return shortcut + DropPath(self.drop_path, name="drop_path")(x, train)

    def _mix(self, x: jax.Array, stride: int) -> jax.Array:
        """Mixes positions, channel by channel or head by head."""
        if self.spatial == "convolution":
            padding = self.recipe.padding
            return DepthwiseConv(stride, padding, self.dtype, name="depthwise")(x)
        x = LocalAttention(dtype=self.dtype, name="local_attention")(x)
        return average_pool(x) if stride == 2 else x

    def _gated(self, x: jax.Array, train: bool) -> jax.Array:
        if self.gate == "block_attention":
            return BlockAttention(self.dtype, name="block_attention")(x, train)
        hidden, recipe = x.shape[-1], self.recipe
        # A quarter of the width that was expanded to the hidden one, if it is the
        # output's, and of the hidden one itself in timm's own networks.
        squeezed = (self.features if recipe.expanded == "output" else hidden) // 4
        return SqueezeExcite(
            squeezed, recipe.gate_activation, self.dtype, name="squeeze_excite"
        )(x)


class Transformer(nn.Module):
    """T: relative attention and an MLP, each pre-normalised (Dai et al. 2021).

    Attributes:
      partition: what attends to itself, a key of `partition.PARTITIONS`.
      window: size of the parts; None where the map is whole.
    """

    features: int
    stride: int = 1
    drop_path: float | jax.Array = 0.0
    recipe: Recipe = PAPER
    dtype: jnp.dtype = jnp.float32
    partition: str = "whole"
    window: Size | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        recipe = self.recipe
        shortcut = Shortcut(
            self.features,
            self.stride,
            recipe.pool,
            recipe.shortcut_bias,
            nn.initializers.xavier_uniform(),
            self.dtype,
            name="shortcut",
        )(x)
        x = transformer_norm(recipe, train, self.dtype, "attention_norm")(x)
        if self.stride == 2:
            x = POOLS[recipe.pool](x)
        parts = PARTITIONS[self.partition](x, self.window)
        x = RelativeAttention(self.features, recipe, self.dtype, name="attention")(
            parts.x, train, parts.real
        )
        x = self._scaled(parts.join(x), "attention_scale")
        x = shortcut + DropPath(self.drop_path, name="attention_drop_path")(x, train)

        shortcut = x
        x = transformer_norm(recipe, train, self.dtype, "mlp_norm")(x)
        x = MLP(self.features, recipe.transformer_activation, self.dtype, name="mlp")(x)
        x = self._scaled(x, "mlp_scale")
        return shortcut + DropPath(self.drop_path, name="mlp_drop_path")(x, train)

    def _scaled(self, x: jax.Array, name: str) -> jax.Array:
        """Layer scale (Touvron et al. 2021), where the recipe has it."""
        if not self.recipe.layer_scale:
            return x
        init = nn.initializers.constant(self.recipe.layer_scale)
        return x * self.param(name, init, (x.shape[-1],)).astype(self.dtype)


class MaxViT(nn.Module):
    """M: convolution, then attention in blocks, then over a grid (Tu et al. 2022)."""

    features: int
    stride: int = 1
    drop_path: float | jax.Array = 0.0
    recipe: Recipe = PAPER
    dtype: jnp.dtype = jnp.float32
    window: Size = (7, 7)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        same = {
            "drop_path": self.drop_path,
            "recipe": self.recipe,
            "dtype": self.dtype,
        }
        x = MBConv(self.features, self.stride, name="conv", **same)(x, train)
        for partition in ("block", "grid"):
            x = Transformer(
                self.features,
                partition=partition,
                window=self.window,
                name=partition,
                **same,
            )(x, train)
        return x


class MLP(nn.Module):
    """Two dense layers over channels with an activation between."""

    features: int
    activation: str = "gelu"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        product = partial(
            Conv1x1,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=nn.initializers.normal(1e-6),
        )
        x = product(EXPANSION * self.features, name="expand")(x)
        return product(self.features, name="project")(ACTIVATIONS[self.activation](x))


def transformer_norm(
    recipe: Recipe, train: bool, dtype: jnp.dtype, name: str
) -> Callable[[jax.Array], jax.Array]:
    """The norm of transformer blocks and heads."""
    epsilon = recipe.transformer_norm_epsilon
    if recipe.transformer_norm == "batch":
        return partial(BatchNorm(epsilon, dtype=dtype, name=name), train=train)
    return layer_norm(dtype, name, epsilon)


BLOCKS = {
    "C": MBConv,
    "B": partial(MBConv, gate="block_attention"),
    "S": partial(MBConv, spatial="attention"),
    "T": Transformer,
    "M": MaxViT,
}
