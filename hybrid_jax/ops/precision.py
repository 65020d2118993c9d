"""The dtype of values that must not be rounded: sums, statistics, softmax, logits."""

import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """Return float32 for float32 and narrower types, and float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)
