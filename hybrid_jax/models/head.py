"""The head: from the last map to logits."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid_jax.models.block_config import PAPER, BlockConfig
from hybrid_jax.models.blocks import transformer_norm
from hybrid_jax.models.layers import ACTIVATIONS, Dropout
from hybrid_jax.ops.precision import at_least_float32

# PyTorch's default for linear layers, uniform in +-1/sqrt(fan_in).
head_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Head(nn.Module):
    """Global mean, a hidden layer of `hidden` units unless that is 0, and classifier.

    Sows the classifier's input, `[B, hidden or C]`, as the intermediate `features`.
    """

    hidden: int
    num_classes: int
    dropout: float = 0.0
    block_config: BlockConfig = PAPER
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map `[B, H, W, C]` to float32 logits `[B, num_classes]`."""
        norm = transformer_norm(self.block_config, train, self.dtype, "norm")
        if self.hidden:
            x = norm(x.mean((1, 2)))
            dense = nn.Dense(
                self.hidden, dtype=self.dtype, kernel_init=head_init, name="hidden"
            )
            x = nn.tanh(dense(x))
        else:
            activation = ACTIVATIONS[self.block_config.head_activation]
            x = activation(norm(x)).mean((1, 2))
        self.sow("intermediates", "features", x)
        x = Dropout(self.dropout)(x, train)
        # In float32, since rounded logits of many classes would tie.
        return nn.Dense(
            self.num_classes,
            dtype=at_least_float32(self.dtype),
            kernel_init=head_init,
            name="classifier",
        )(x)
