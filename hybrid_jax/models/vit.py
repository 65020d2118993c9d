"""ViT (Dosovitskiy et al. 2021), the baseline without convolutions.

Patches, a class token, learned absolute positions, pre-normalized transformer blocks.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.models.block_config import VIT, BlockConfig
from hybrid_jax.models.blocks import Transformer
from hybrid_jax.models.head import Head
from hybrid_jax.models.scan_blocks import Entry, apply_group, dropout_key, group_blocks
from hybrid_jax.models.strides import Size


class ViT(nn.Module):
    """A monolithic transformer over patches.

    Attributes:
      width, depth: channels, and number of blocks.
      patch_size: side of a patch; the last patches are padded with zeros where it does
        not divide the image.
      num_classes, image_size, block_config, drop_path, dropout, dtype, scan, remat: see
        `HybridNet`.

    Sows the patches after every block, `[B, h, w, C]`, as the intermediate `maps`.
    """

    width: int
    depth: int
    patch_size: int
    num_classes: int
    image_size: Size
    block_config: BlockConfig = VIT
    drop_path: float = 0.0
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    scan: str = "auto"
    remat: str = "none"

    @property
    def map_sizes(self) -> list[Size]:
        """`(rows, columns)` of patches, the only map of the network."""
        height, width = self.image_size
        return [(-(-height // self.patch_size), -(-width // self.patch_size))]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Map float `[B, H, W, channels]` to float32 logits `[B, num_classes]`."""
        x = self._embed_patches(x.astype(self.dtype))
        batch, height, width, _ = x.shape
        token = self.param("class_token", nn.initializers.normal(1e-6), (self.width,))
        token = jnp.broadcast_to(token.astype(self.dtype), (batch, 1, self.width))
        x = jnp.concatenate([token, x.reshape(batch, -1, self.width)], axis=1)
        positions = self.param(
            "position_embedding",
            nn.initializers.truncated_normal(0.02),
            (1 + height * width, self.width),
        )
        x = (x + positions.astype(self.dtype))[:, :, None]  # a map, one column wide

        make = partial(
            Transformer, self.width, block_config=self.block_config, dtype=self.dtype
        )
        rates = np.linspace(0, self.drop_path, self.depth)
        entries = [
            Entry(f"block{number}", "T", make, float(rate))
            for number, rate in enumerate(rates, 1)
        ]
        key = dropout_key(self, train)
        for group in group_blocks(self, entries):
            x = apply_group(self, group, x, train, key)
            patches = x[:, 1:].reshape(batch, height, width, self.width)
            self.sow("intermediates", "maps", patches)

        return Head(
            0,
            self.num_classes,
            self.dropout,
            self.block_config,
            self.dtype,
            name="head",
        )(x[:, :1], train)

    def _embed_patches(self, x: jax.Array) -> jax.Array:
        """Map each patch to a vector: a convolution whose stride is its size."""
        side, (height, width) = self.patch_size, x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (0, -height % side), (0, -width % side), (0, 0)))
        batch, height, width, channels = x.shape
        rows, columns = height // side, width // side
        x = x.reshape(batch, rows, side, columns, side, channels)
        x = x.swapaxes(2, 3).reshape(batch, rows, columns, side * side * channels)
        return nn.Dense(self.width, dtype=self.dtype, name="patch_embedding")(x)
