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

from hybrid_jax.models.geometry import HEAD_DIM
from hybrid_jax.models.layers import Conv1x1


def relative_position_index(height: int, width: int) -> np.ndarray:
    """Row of the bias table for every pair of positions.

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


class RelativeAttention(nn.Module):
    """Multi-head self-attention with a learned relative position bias.

    Attributes:
      features: channels out; a multiple of `HEAD_DIM`.
      form: key of `FORMS`, where the bias enters.
      dtype: of the matrix products; scores, softmax and bias are float32.
    """

    features: int
    form: str = "pre"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, features]`."""
        batch, height, width, _ = x.shape
        positions, heads = height * width, self.features // HEAD_DIM
        dense = self._dense

        qkv = dense(3 * self.features, name="qkv")(x)
        qkv = qkv.reshape(batch, positions, heads, 3 * HEAD_DIM)
        q, k, v = jnp.split(qkv, 3, axis=-1)

        table = self.param(
            "bias_table",
            nn.initializers.truncated_normal(0.02),
            ((2 * height - 1) * (2 * width - 1), heads),
            jnp.float32,
        )
        bias = table[relative_position_index(height, width)].transpose(2, 0, 1)

        scores = jnp.einsum("bind,bjnd->bnij", q, k, preferred_element_type=jnp.float32)
        weights = FORMS[self.form](scores * HEAD_DIM**-0.5, bias)
        y = jnp.einsum("bnij,bjnd->bind", weights.astype(self.dtype), v)
        y = y.reshape(batch, height, width, self.features)
        return dense(self.features, name="project")(y)

    def _dense(self, features: int, name: str) -> Conv1x1:
        return Conv1x1(
            features,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            name=name,
        )
