"""Residual blocks, one for each letter of a stack.

Every block maps `[B, H, W, C]` to `[B, ceil(H/stride), ceil(W/stride), features]` and
reads like its paper's equation: `x = shortcut(x) + branch(norm(x))`. Details in which
papers and releases differ are fields of the block's config.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid_jax.models.attention import RelativeAttention
from hybrid_jax.models.block_config import PAPER, BlockConfig
from hybrid_jax.models.downsample import halve, halve_alike, operation_stride, pool
from hybrid_jax.models.layers import (
    ACTIVATIONS,
    BatchNorm,
    BlockAttention,
    Conv,
    Conv1x1,
    DepthwiseConv,
    Dropout,
    Shortcut,
    SqueezeExcite,
    depthwise_of_norm,
    product_of_norm,
)
from hybrid_jax.models.local_attention import LocalAttention
from hybrid_jax.models.strides import Size
from hybrid_jax.models.window_partition import PARTITIONS
from hybrid_jax.ops.fusion import written_once

EXPANSION = 4  # of all blocks: hidden width over output (or input) width


class MBConv(nn.Module):
    """C: inverted residual with squeeze-excite (Sandler et al. 2018), pre-normalized.

    Norm, 1x1 to four times the width, depthwise 3x3 (which carries the stride), gate,
    1x1 back. B has block attention for its gate (Woo et al. 2018). S has local
    self-attention in place of the depthwise convolution (Ramachandran et al. 2019),
    pooled if strided.

    Attributes:
      spatial: layer that mixes positions, `convolution` or `attention`.
      gate: layer that weights the hidden map, `squeeze_excite` or `block_attention`.
    """

    features: int
    stride: int = 1
    drop_path: float | jax.Array = 0.0
    block_config: BlockConfig = PAPER
    dtype: jnp.dtype = jnp.float32
    spatial: str = "convolution"
    gate: str = "squeeze_excite"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        config = self.block_config
        norm = partial(BatchNorm, config.batch_norm_epsilon, dtype=self.dtype)
        activated = partial(norm, activation=config.activation)
        conv1x1 = partial(Conv1x1, dtype=self.dtype)

        whole, stride, phase = x, self.stride, None
        wide = self.features if config.expanded == "output" else x.shape[-1]
        first = (activated if config.pre_activation else norm)(name="pre_norm")
        expand = conv1x1(EXPANSION * wide, use_bias=False, name="expand")
        if config.stride_in == "pool" and stride == 2:
            x, phase = halve(pool(first(x, train), "average", config), config)
            x, stride = expand(x), 1
        else:
            x = product_of_norm(expand, first, x, train)
        x = self._mix(activated(name="expand_norm"), x, stride, train)
        spatial_norm = activated(name="spatial_norm")
        gate: jax.Array | float = 1.0
        if config.gate_before_norm:
            x, gates = self._gate(x, train)
            x = spatial_norm(x * gates, train)
        else:
            x = spatial_norm(x, train)
        if stride == 2:
            x, phase = halve(x, config)
        if not config.gate_before_norm:
            x, gate = self._gate(x, train)
        project = conv1x1(self.features, use_bias=config.conv_bias, name="project")
        x = project(x, gate)
        shortcut = Shortcut(
            self.features,
            self.stride,
            config,
            config.conv_bias,
            dtype=self.dtype,
            name="shortcut",
        )(whole, phase)
        return shortcut + _drop_path(self.drop_path, "drop_path")(x, train)

    def _mix(
        self, norm: BatchNorm, x: jax.Array, stride: int, train: bool
    ) -> jax.Array:
        """Normalize, then mix positions, channel by channel or head by head."""
        config = self.block_config
        if self.spatial == "convolution":
            stride = operation_stride(stride, config)
            conv = DepthwiseConv(stride, config.padding, self.dtype, name="depthwise")
            return depthwise_of_norm(conv, norm, x, train, config.kernels)
        x = norm(x, train)
        attend = LocalAttention(
            padding=config.padding, dtype=self.dtype, name="local_attention"
        )
        return pool(attend(x), "average", config) if stride == 2 else attend(x)

    def _gate(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array | float]:
        """Return the map and its gates `[B, 1, 1, C]`, or 1 if it is gated already."""
        config = self.block_config
        if self.gate == "block_attention":
            gated = BlockAttention(config.padding, self.dtype, name="block_attention")
            return gated(x, train), 1.0
        # As published, a quarter of the output width. timm's own networks, which expand
        # the input width, take a quarter of the hidden width.
        by_output = config.expanded == "output"
        gate = SqueezeExcite(
            (self.features if by_output else x.shape[-1]) // 4,
            config.gate_activation,
            self.dtype,
            name="squeeze_excite",
        )
        if not train:  # in training, gradients need it in memory anyway
            x = written_once(x)
        return x, gate(x)


class WideResidual(nn.Module):
    """W: two 3x3 convolutions, pre-activated (Zagoruyko & Komodakis 2016).

    Norm and activation precede each convolution. Where the map changes its shape, the
    shortcut is a 1x1 convolution of the activated input; elsewhere it is the input.
    """

    features: int
    stride: int = 1
    drop_path: float | jax.Array = 0.0
    block_config: BlockConfig = PAPER
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        config = self.block_config
        activated = partial(
            BatchNorm, config.batch_norm_epsilon, config.activation, self.dtype
        )
        conv = partial(Conv, self.features, padding=config.padding, dtype=self.dtype)
        stride = operation_stride(self.stride, config)
        is_changed = self.stride == 2 or x.shape[-1] != self.features
        shortcut = x
        x = activated(name="pre_norm")(x, train)
        if is_changed:
            shortcut = x[:, ::stride, ::stride]
        x = conv(stride=stride, name="conv1")(x)
        x = activated(name="norm")(x, train)
        if self.stride == 2:
            x, phase = halve(x, config)
            shortcut = halve_alike(shortcut, phase, config)
        x = conv(name="conv2")(x)
        if is_changed:
            shortcut = Conv1x1(
                self.features, use_bias=False, dtype=self.dtype, name="shortcut"
            )(shortcut)
        return shortcut + _drop_path(self.drop_path, "drop_path")(x, train)


class Transformer(nn.Module):
    """T: relative attention and an MLP, each pre-normalized (Dai et al. 2021).

    Attributes:
      partition: which positions attend to each other, a key of
        `window_partition.PARTITIONS`.
      window: size of the windows; None where the map is whole.
    """

    features: int
    stride: int = 1
    drop_path: float | jax.Array = 0.0
    block_config: BlockConfig = PAPER
    dtype: jnp.dtype = jnp.float32
    partition: str = "whole"
    window: Size | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        config = self.block_config
        whole, phase = x, None
        x = transformer_norm(config, train, self.dtype, "attention_norm")(x)
        if self.stride == 2:
            x, phase = halve(pool(x, config.pool, config), config)
        shortcut = Shortcut(
            self.features,
            self.stride,
            config,
            config.shortcut_bias,
            nn.initializers.xavier_uniform(),
            self.dtype,
            name="shortcut",
        )(whole, phase)
        windows = PARTITIONS[self.partition](x, self.window)
        x = RelativeAttention(self.features, config, self.dtype, name="attention")(
            windows.x, train, windows.mask
        )
        x = self._layer_scale(windows.merge(x), "attention_scale")
        x = shortcut + _drop_path(self.drop_path, "attention_drop_path")(x, train)

        shortcut = x
        x = transformer_norm(config, train, self.dtype, "mlp_norm")(x)
        x = MLP(self.features, config.transformer_activation, self.dtype, name="mlp")(x)
        x = self._layer_scale(x, "mlp_scale")
        return shortcut + _drop_path(self.drop_path, "mlp_drop_path")(x, train)

    def _layer_scale(self, x: jax.Array, name: str) -> jax.Array:
        """Scale channels (Touvron et al. 2021) if the config has an initial factor."""
        if not self.block_config.layer_scale:
            return x
        init = nn.initializers.constant(self.block_config.layer_scale)
        return x * self.param(name, init, (x.shape[-1],)).astype(self.dtype)


class MaxViT(nn.Module):
    """M: convolution, then attention in blocks, then over a grid (Tu et al. 2022)."""

    features: int
    stride: int = 1
    drop_path: float | jax.Array = 0.0
    block_config: BlockConfig = PAPER
    dtype: jnp.dtype = jnp.float32
    window: Size = (7, 7)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = MBConv(
            self.features,
            self.stride,
            self.drop_path,
            self.block_config,
            self.dtype,
            name="conv",
        )(x, train)
        for partition in ("block", "grid"):
            x = Transformer(
                self.features,
                drop_path=self.drop_path,
                block_config=self.block_config,
                dtype=self.dtype,
                partition=partition,
                window=self.window,
                name=partition,
            )(x, train)
        return x


class MLP(nn.Module):
    """Two dense layers over channels with an activation between."""

    features: int
    activation: str = "gelu"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv1x1 = partial(
            Conv1x1,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            bias_init=nn.initializers.normal(1e-6),
        )
        x = conv1x1(EXPANSION * self.features, name="expand")(x)
        return conv1x1(self.features, name="project")(ACTIVATIONS[self.activation](x))


def transformer_norm(
    config: BlockConfig, train: bool, dtype: jnp.dtype, name: str
) -> Callable[[jax.Array], jax.Array]:
    """Return the norm of transformer blocks and heads."""
    epsilon = config.transformer_norm_epsilon
    if config.transformer_norm == "batch":
        return partial(BatchNorm(epsilon, dtype=dtype, name=name), train=train)
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, name=name)


def _drop_path(rate: float | jax.Array, name: str) -> Dropout:
    """Return stochastic depth (Huang et al. 2016), which drops the branch by image."""
    return Dropout(rate, per_image=True, name=name)
