"""The network behind every hybrid: a stem, stages of blocks, a head.

    S0        two 3x3 convolutions, or one
    S1 .. S4  residual blocks, the letters of the stack by stage; the first block of a
              stage widens the map and carries the stage's stride
    head      global mean, LayerNorm, Dense, tanh, Dropout, Dense

Astroformer (Dagli 2023) is the stack C-C-C-T, CoAtNet (Dai et al. 2021) C-C-T-T, MaxViT
(Tu et al. 2022) M-M-M-M, and a wide residual network (Zagoruyko & Komodakis 2016) is
W-W-W.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.models.block_config import PAPER, BlockConfig
from hybrid_jax.models.downsample import halve, operation_stride
from hybrid_jax.models.head import Head
from hybrid_jax.models.layers import BatchNorm, Conv
from hybrid_jax.models.registry import LETTERS, Block, PerStage, block_plan
from hybrid_jax.models.scan_blocks import Entry, apply_group, dropout_key, group_blocks
from hybrid_jax.models.strides import Size, map_sizes


class Stem(nn.Module):
    """S0: a convolution with the stride; if two widths, a norm and another convolution.

    Attributes:
      features: channels of the convolutions, two or one.
      stride: of the first convolution; 1 or 2.
      block_config: padding, downsampling, biases, norm and activation.
      dtype: of activations and products.
    """

    features: tuple[int, ...]
    stride: int = 2
    block_config: BlockConfig = PAPER
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map `[B, H, W, channels]` to `[B, ceil(H/stride), ceil(W/stride), C]`."""
        config, (first, *others) = self.block_config, self.features
        conv = partial(
            Conv,
            padding=config.padding,
            use_bias=config.stem_bias,
            dtype=self.dtype,
        )
        x = conv(first, stride=operation_stride(self.stride, config), name="conv1")(x)
        if others:
            x = BatchNorm(
                config.batch_norm_epsilon, config.activation, self.dtype, name="norm"
            )(x, train)
        if self.stride == 2:
            x, _ = halve(x, config)
        return conv(*others, name="conv2")(x) if others else x


class HybridNet(nn.Module):
    """Convolutions and attention in the order that a stack names.

    Attributes:
      stack: the letters of each stage's blocks, keys of `registry.LETTERS`.
      widths, depths: channels and blocks of each stage, or of each letter in it.
      strides: of the stem, then of each stage; 1 or 2.
      stem_widths: channels of the stem's convolutions, two or one.
      head_hidden: width of the head's hidden layer; 0 has none.
      num_classes: number of logits.
      image_size: `(height, width)` that the network is built for.
      block_config: choices inside the blocks.
      drop_path: rate of the last block; rises linearly from 0 at the first.
      dropout: rate before the classifier.
      dtype: of activations and matrix products; parameters, statistics, softmax and
        logits are float32.
      scan: whether equal blocks are scanned over, a key of `scan_blocks.SCAN`.
      remat: what the backward pass saves of a block, a key of `scan_blocks.REMAT`.

    Sows the maps after stem and stages, in this order, as the intermediate `maps`.
    """

    stack: tuple[str, ...]
    widths: PerStage
    depths: PerStage
    strides: tuple[int, ...]
    stem_widths: tuple[int, ...]
    head_hidden: int
    num_classes: int
    image_size: Size
    block_config: BlockConfig = PAPER
    drop_path: float = 0.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    scan: str = "auto"
    remat: str = "none"

    @property
    def plan(self) -> list[Block]:
        """Every block in order, with its stage, letter and width."""
        return block_plan(self.stack, self.widths, self.depths)

    @property
    def map_sizes(self) -> list[Size]:
        """`(height, width)` of the map after the stem and each stage."""
        return map_sizes(self.image_size, self.strides)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Map float `[B, H, W, channels]` to float32 logits `[B, num_classes]`."""
        x = Stem(
            self.stem_widths,
            self.strides[0],
            self.block_config,
            self.dtype,
            name="stem",
        )(x.astype(self.dtype), train)
        self.sow("intermediates", "maps", x)

        entries = self._entries()
        ends = {e.name for e, b in zip(entries, self.plan, strict=True) if b.last}
        key = dropout_key(self, train)
        for group in group_blocks(self, entries):
            x = apply_group(self, group, x, train, key)
            if group[-1].name in ends:
                self.sow("intermediates", "maps", x)

        return Head(
            self.head_hidden,
            self.num_classes,
            self.dropout,
            self.block_config,
            self.dtype,
            name="head",
        )(x, train)

    def _entries(self) -> list[Entry]:
        """Return every block of the plan, ready to be made."""
        rates = np.linspace(0.0, self.drop_path, len(self.plan))
        entries, before = [], None
        for block, rate in zip(self.plan, rates, strict=True):
            letter = LETTERS[block.letter]
            make = partial(
                letter.load_block(),
                features=block.width,
                stride=self.strides[block.stage] if block.number == 1 else 1,
                block_config=self.block_config,
                dtype=self.dtype,
            )
            if letter.attention == "window":  # as large as the last map, as published
                make = partial(make, window=self.map_sizes[-1])
            name = f"stage{block.stage}_block{block.number}"
            # The first of its kind may widen the map, and carries the stride.
            kind = block.stage, block.letter, block.width
            entries.append(Entry(name, (*kind, kind == before), make, float(rate)))
            before = kind
        return entries
