"""Exact GELU (Hendrycks & Gimpel 2016) that stores only its input for gradients.

Autodiff would store intermediates of the error function, several maps of the network's
widest layer; recomputing them is cheaper than writing and reading them.
"""

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.derivatives import define_derivatives


def gelu_reference(x: jax.Array) -> jax.Array:
    """Compute `x * Phi(x)`, with `Phi` the normal distribution function."""
    return jax.nn.gelu(x, approximate=False)


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """Compute `gelu_reference`, with its own derivatives."""
    return x * _cdf(x)


def _cdf(x: jax.Array) -> jax.Array:
    return 0.5 + 0.5 * lax.erf(x * 0.5**0.5)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x * _cdf(x), x


def _tangent(x: jax.Array, dx: jax.Array) -> jax.Array:
    density = jnp.exp(-0.5 * x * x) * (2 * jnp.pi) ** -0.5
    return dx * (_cdf(x) + x * density)


def _backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (_tangent(x, dy),)


define_derivatives(gelu, _forward, _tangent, _backward)
