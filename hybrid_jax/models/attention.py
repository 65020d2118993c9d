"""Relative attention (Dai et al. 2021, section 2.1; Dagli 2023, section 3).

Self-attention over all positions of a map. One learned scalar per head and offset
`i - j` makes the weights depend on relative position as well: a global depthwise
convolution and self-attention in one sum.

Shapes: `B` batch, `H W` map, `P = H*W` positions, `N` heads, `D` head size, `C`
channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.models.block_config import PAPER, BlockConfig
from hybrid_jax.models.layers import Conv1x1
from hybrid_jax.ops.attention import attention, attention_scores


def relative_position_index(height: int, width: int) -> np.ndarray:
    """Return the row of the flattened bias table for every pair of positions.

    Returns:
      `[P, P]` integers; entry `(i, j)` is the row of the offset `i - j`. The table has
      `(2*height - 1) * (2*width - 1)` rows.
    """
    y, x = np.divmod(np.arange(height * width), width)
    dy = y[:, None] - y[None, :] + height - 1
    dx = x[:, None] - x[None, :] + width - 1
    return dy * (2 * width - 1) + dx


def torus_position_index(height: int, width: int) -> np.ndarray:
    """Return the row of a flattened table `[H, W, N]` for every pair of positions.

    Offsets are taken modulo the size of the map, so a cyclic shift of the map does not
    change the bias of any pair.

    Returns:
      `[P, P]` integers; entry `(i, j)` is the row of `(i - j) mod (height, width)`.
    """
    y, x = np.divmod(np.arange(height * width), width)
    dy = (y[:, None] - y[None, :]) % height
    dx = (x[:, None] - x[None, :]) % width
    return dy * width + dx


class OffsetMLP(nn.Module):
    """Relative bias as a function of the offset (Liu et al. 2022, Swin V2).

    An MLP maps logarithmic offsets to biases, so its parameters do not depend on the
    size of the map. As in timm, training drops an eighth of the hidden layer.

    Attributes:
      hidden: width of the hidden layer.
      heads: number of attention heads.
    """

    hidden: int
    heads: int

    @nn.compact
    def __call__(self, height: int, width: int, train: bool) -> jax.Array:
        """Return a bias table `[2H - 1, 2W - 1, N]`, float32."""
        axes = [np.arange(1 - n, n, dtype=np.float32) for n in (height, width)]
        offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        log_offsets = np.sign(offsets) * np.log1p(np.abs(offsets))
        x = nn.relu(nn.Dense(self.hidden, name="expand")(jnp.asarray(log_offsets)))
        x = nn.Dropout(0.125, deterministic=not train)(x)
        return nn.Dense(self.heads, name="project")(x)


class RelativeAttention(nn.Module):
    """Multi-head self-attention with a learned relative position bias.

        pre    softmax_j(q_i.k_j + w_{i-j})   the bias competes inside the softmax
        post   softmax_j(q_i.k_j) + w_{i-j}   a static global convolution beside it

    Attributes:
      features: output channels; heads are `block_config.head_dim` channels wide.
      block_config: form and source of the bias, and where the map is widened.
      dtype: of the matrix products; scores, softmax and bias are float32.

    Sows the attention weights `[B, N, P, P]` as the intermediate `weights`, and the
    softmax alone, without a `post` bias, as `softmax`.
    """

    features: int
    block_config: BlockConfig = PAPER
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Map `[B, H, W, C]` to `[B, H, W, features]`.

        Args:
          x: the map.
          train: whether dropout acts in the MLP of the bias.
          mask: bool `[B, P]`, True for positions to attend to; None for all.
        """
        config, (batch, height, width, channels) = self.block_config, x.shape
        inside = self.features if config.widened_by == "qkv" else channels
        heads = inside // config.head_dim

        qkv = self._conv1x1(3 * inside, "qkv")(x)
        qkv = qkv.reshape(batch, height * width, heads, 3 * config.head_dim)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        bias = self._bias(height, width, heads, train)
        before_softmax = config.attention == "pre" or bias is None
        sown = self.is_mutable_collection("intermediates")
        if before_softmax and mask is None and not sown:
            y = attention(q, k, v, bias)
        else:
            weights = self._weights(attention_scores(q, k), bias, mask)
            self.sow("intermediates", "weights", weights)
            y = jnp.einsum("bnij,bjnd->bind", weights.astype(self.dtype), v)
        y = y.reshape(batch, height, width, inside)
        return self._conv1x1(self.features, "project")(y)

    def _weights(
        self, scores: jax.Array, bias: jax.Array | None, mask: jax.Array | None
    ) -> jax.Array:
        """Return attention weights `[B, N, P, P]` of scores of that shape."""
        if mask is not None:
            scores = jnp.where(mask[:, None, None, :], scores, -1e9)
        is_inside = self.block_config.attention == "pre"
        if bias is not None and is_inside:
            scores = scores + bias
        weights = nn.softmax(scores)
        self.sow("intermediates", "softmax", weights)
        if bias is None:
            return weights
        if not is_inside:
            weights = weights + bias
        if mask is not None:  # a bias after the softmax would reach masked positions
            weights = jnp.where(mask[:, None, None, :], weights, 0.0)
        return weights

    def _bias(
        self, height: int, width: int, heads: int, train: bool
    ) -> jax.Array | None:
        """Return the bias `[N, P, P]`, float32; None without a relative bias."""
        config = self.block_config
        if config.relative_bias == "none":
            return None
        on_torus = config.relative_bias == "torus"
        if config.relative_bias == "mlp":
            mlp = OffsetMLP(config.relative_bias_hidden, heads, name="position")
            table = mlp(height, width, train)
        else:
            sides = (height, width) if on_torus else (2 * height - 1, 2 * width - 1)
            init = nn.initializers.truncated_normal(0.02)
            table = self.param("bias_table", init, (*sides, heads), jnp.float32)
        index = torus_position_index if on_torus else relative_position_index
        return table.reshape(-1, heads)[index(height, width)].transpose(2, 0, 1)

    def _conv1x1(self, features: int, name: str) -> Conv1x1:
        return Conv1x1(
            features,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            name=name,
        )
