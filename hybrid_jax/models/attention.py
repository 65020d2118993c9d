"""Relative attention (Dai et al. 2021, section 2.1; Dagli 2023, section 3).

Self-attention over all positions of a map whose weights also depend, through one
learned scalar per head and offset `i - j`, on where two positions lie relative to each
other: a global depthwise convolution and self-attention in one sum.

Shapes: `B` batch, `H W` map, `P = H*W` positions, `N` heads, `D` head size, `C`
channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.models.block_config import PAPER, Recipe
from hybrid_jax.models.layers import Conv1x1
from hybrid_jax.ops.attention import attention, scores


def relative_position_index(height: int, width: int) -> np.ndarray:
    """Row of the flattened bias table for every pair of positions.

    Returns:
      `[P, P]` integers; entry `(i, j)` numbers the offset `i - j`, of which a map has
      `(2*height - 1) * (2*width - 1)`.
    """
    y, x = np.divmod(np.arange(height * width), width)
    dy = y[:, None] - y[None, :] + height - 1
    dx = x[:, None] - x[None, :] + width - 1
    return dy * (2 * width - 1) + dx


def pre_normalised(scores: jax.Array, bias: jax.Array) -> jax.Array:
    """`softmax_j(x_i.x_j + w_{i-j})`: the bias competes inside the softmax."""
    return nn.softmax(scores + bias)


def post_normalised(scores: jax.Array, bias: jax.Array) -> jax.Array:
    """`softmax_j(x_i.x_j) + w_{i-j}`: a static global convolution beside attention."""
    return nn.softmax(scores) + bias


FORMS = {"pre": pre_normalised, "post": post_normalised}


class OffsetMLP(nn.Module):
    """Relative bias as a function of the offset (Liu et al. 2022, Swin V2).

    An MLP of logarithmic offsets, so that its parameters do not depend on the map's
    size. timm's networks drop an eighth of its hidden layer in training.
    """

    hidden: int
    heads: int

    @nn.compact
    def __call__(self, height: int, width: int, train: bool) -> jax.Array:
        """A bias table `[2H - 1, 2W - 1, N]`, float32."""
        offsets = [np.arange(1 - n, n, dtype=np.float32) for n in (height, width)]
        offsets = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1)
        offsets = np.sign(offsets) * np.log1p(np.abs(offsets))
        x = nn.relu(nn.Dense(self.hidden, name="expand")(jnp.asarray(offsets)))
        x = nn.Dropout(0.125, deterministic=not train)(x)
        return nn.Dense(self.heads, name="project")(x)


class RelativeAttention(nn.Module):
    """Multi-head self-attention with a learned relative position bias.

    Attributes:
      features: channels out; heads are `recipe.head_dim` channels wide.
      recipe: form and source of the bias, and where the map is widened.
      dtype: of the matrix products; scores, softmax and bias are float32.

    Sows its weights, `[B, N, P, P]`, as the intermediate `weights`.
    """

    features: int
    recipe: Recipe = PAPER
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, real: jax.Array | None = None
    ) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, features]`.

        Only positions that are `real`, bool `[B, P]`, are attended to; None is all.
        """
        batch, height, width, channels = x.shape
        positions, head_dim = height * width, self.recipe.head_dim
        inside = self.features if self.recipe.widened_by == "qkv" else channels
        heads = inside // head_dim

        qkv = self._product(3 * inside, "qkv")(x)
        qkv = qkv.reshape(batch, positions, heads, 3 * head_dim)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        bias = self._bias(height, width, heads, train)
        if self._is_plain(real):
            y = attention(q, k, v, bias)
        else:
            weights = self._weights(scores(q, k), bias, real)
            self.sow("intermediates", "weights", weights)
            y = jnp.einsum("bnij,bjnd->bind", weights.astype(self.dtype), v)
        y = y.reshape(batch, height, width, inside)
        return self._product(self.features, "project")(y)

    def _is_plain(self, real: jax.Array | None) -> bool:
        """Softmax attention over all positions, whose weights nobody asks for."""
        biased_within = self.recipe.attention == "pre" or self.recipe.position == "none"
        asked_for = self.is_mutable_collection("intermediates")
        return biased_within and real is None and not asked_for

    def _weights(self, scores, bias, real):
        """Scores `[B, N, P, P]` as weights, with the bias that the recipe asks for."""
        if real is not None:
            scores = jnp.where(real[:, None, None, :], scores, -1e9)
        if bias is None:
            return nn.softmax(scores)
        weights = FORMS[self.recipe.attention](scores, bias)
        if real is not None:  # whose bias may have come behind the softmax
            weights = jnp.where(real[:, None, None, :], weights, 0.0)
        return weights

    def _bias(self, height, width, heads, train):
        """`[N, P, P]`, float32; None without positions."""
        if self.recipe.position == "none":
            return None
        table = self._bias_table(height, width, heads, train)
        table = table.reshape(-1, heads)
        return table[relative_position_index(height, width)].transpose(2, 0, 1)

    def _bias_table(self, height, width, heads, train):
        """`[2H - 1, 2W - 1, N]`: a scalar for every offset and head."""
        if self.recipe.position == "mlp":
            mlp = OffsetMLP(self.recipe.position_hidden, heads, name="position")
            return mlp(height, width, train)
        return self.param(
            "bias_table",
            nn.initializers.truncated_normal(0.02),
            (2 * height - 1, 2 * width - 1, heads),
            jnp.float32,
        )

    def _product(self, features: int, name: str) -> Conv1x1:
        return Conv1x1(
            features,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            name=name,
        )
