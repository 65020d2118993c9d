"""Values that XLA must compute once, instead of again in every consumer."""

import jax
from jax import lax

from hybrid_jax.ops.backend import target_backend


def written_once(x: jax.Array) -> jax.Array:
    """Return `x`; make a GPU write it to memory before anything reads it.

    Without this, XLA writes the result of a convolution as products to memory. It then
    computes the norm and the activation twice: for a mean, and for its other consumer.
    """
    return lax.optimization_barrier(x) if target_backend() == "gpu" else x
