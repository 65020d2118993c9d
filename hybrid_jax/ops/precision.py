"""The type of what must not be rounded: sums, statistics, softmax, logits."""

import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """Return float32 for types up to it, and float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)
