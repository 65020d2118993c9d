"""Exact GELU (Hendrycks & Gimpel 2016) that stores only its input for gradients.

Autodiff would store intermediates of the error function, several maps of the network's
widest layer; recomputing them is cheaper than writing and reading them.
"""

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.derivatives import define_derivatives
from hybrid_jax.ops.precision import at_least_float32


def gelu_reference(x: jax.Array) -> jax.Array:
    """Compute `x * Phi(x)`, with `Phi` the normal distribution function."""
    return jax.nn.gelu(x, approximate=False)


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """Compute `gelu_reference`, with its own derivatives.

    Nothing is rounded to bfloat16 in between, where `_cdf` would cancel below -2.
    """
    return _forward(x)[0]


def _widened(x: jax.Array) -> jax.Array:
    return x.astype(at_least_float32(x.dtype))


def _cdf(x: jax.Array) -> jax.Array:
    return 0.5 + 0.5 * lax.erf(x * 0.5**0.5)


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    wide = _widened(x)
    return (wide * _cdf(wide)).astype(x.dtype), x


def _tangent(x: jax.Array, dx: jax.Array) -> jax.Array:
    wide = _widened(x)
    density = jnp.exp(-0.5 * wide * wide) * (2 * jnp.pi) ** -0.5
    return (_widened(dx) * (_cdf(wide) + wide * density)).astype(x.dtype)


def _backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (_tangent(x, dy),)


define_derivatives(gelu, _forward, _tangent, _backward)
