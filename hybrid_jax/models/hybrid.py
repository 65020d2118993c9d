"""The one network behind every hybrid: a stem, stages of blocks, a head.

    S0        two 3x3 convolutions
    S1 .. S4  residual blocks, one letter of the stack a stage; the first block of a
              stage widens the map and carries the stage's stride
    head      global mean, LayerNorm, Dense, tanh, Dropout, Dense

Astroformer (Dagli 2023) is the stack C-C-C-T, CoAtNet (Dai et al. 2021) C-C-T-T.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.models.blocks import BLOCKS
from hybrid_jax.models.layers import Conv3x3, batch_norm, layer_norm
from hybrid_jax.ops.gelu import gelu

# PyTorch's default for linear layers, uniform in +-1/sqrt(fan_in).
head_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Stem(nn.Module):
    """S0: convolution with the stride, norm, GELU, convolution; no biases."""

    features: int
    stride: int = 2
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, channels]` to `[B, ceil(H/stride), ceil(W/stride), features]`."""
        x = Conv3x3(self.features, self.stride, self.dtype, name="conv1")(x)
        x = gelu(batch_norm(train, self.dtype, "norm")(x))
        return Conv3x3(self.features, dtype=self.dtype, name="conv2")(x)


class Head(nn.Module):
    """Global mean to logits, through one hidden layer."""

    hidden: int
    num_classes: int
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, C]` to float32 logits `[B, num_classes]`."""
        x = x.mean((1, 2))
        x = layer_norm(self.dtype, "norm")(x)
        x = nn.Dense(
            self.hidden, dtype=self.dtype, kernel_init=head_init, name="hidden"
        )(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(nn.tanh(x))
        # In float32, since rounded logits of many classes would tie.
        return nn.Dense(
            self.num_classes,
            dtype=jnp.float32,
            kernel_init=head_init,
            name="classifier",
        )(x)


class HybridNet(nn.Module):
    """Convolutions and attention in the order that a stack names.

    Attributes:
      stack: the letter of each stage's blocks, a key of `blocks.BLOCKS`.
      widths, depths: channels and blocks of each stage.
      strides: of the stem, then of each stage; 1 or 2.
      stem_width, head_hidden: widths of stem and head.
      num_classes: logits.
      attention: form of relative attention, a key of `attention.FORMS`.
      drop_path: rate of the last block; rises linearly from 0 at the first.
      dropout: rate before the classifier.
      dtype: of activations and matrix products; parameters, statistics, softmax and
        logits are float32.
    """

    stack: tuple[str, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    strides: tuple[int, ...]
    stem_width: int
    head_hidden: int
    num_classes: int
    attention: str = "pre"
    drop_path: float = 0.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Float images `[B, H, W, channels]` to float32 logits `[B, num_classes]`."""
        stem_stride, *stage_strides = self.strides
        x = x.astype(self.dtype)
        x = Stem(self.stem_width, stem_stride, self.dtype, name="stem")(x, train)

        blocks = BLOCKS | {"T": partial(BLOCKS["T"], attention=self.attention)}
        drop_path = iter(np.linspace(0.0, self.drop_path, sum(self.depths)))
        stages = zip(self.stack, self.widths, self.depths, stage_strides, strict=True)
        for stage, (letter, width, depth, stride) in enumerate(stages, start=1):
            for block in range(1, depth + 1):
                x = blocks[letter](
                    features=width,
                    stride=stride if block == 1 else 1,
                    drop_path=float(next(drop_path)),
                    dtype=self.dtype,
                    name=f"stage{stage}_block{block}",
                )(x, train)

        return Head(
            self.head_hidden, self.num_classes, self.dropout, self.dtype, name="head"
        )(x, train)
