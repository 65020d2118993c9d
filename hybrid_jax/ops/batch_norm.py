"""Batch norm with the activation behind it, as one operation.

Autodiff would store the centred map, the normalised one and the activation's pieces,
and pass over each. This keeps the input alone, whatever the activation: backward
computes the rest again, inside the three passes that it needs.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.batch_axis import place
from hybrid_jax.ops.channel_sums import sums

Activation = Callable[[jax.Array], jax.Array]


def batch_norm_reference(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: Activation,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`activation(scale * (x - mean) / sqrt(variance + epsilon) + bias)`, by channel.

    Args:
      x: `[..., C]`, of any float type, which the result has too.
      scale, bias: float32 `[C]`.
      epsilon: added to the variance.
      activation: elementwise.

    Returns:
      The result `[..., C]`, and the mean and the biased variance, float32 `[C]`.
    """
    wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    mean, variance = wide.mean(axes), wide.var(axes)
    y = activation((wide - mean) * lax.rsqrt(variance + epsilon) * scale + bias)
    return y.astype(x.dtype), mean, variance


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: Activation,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same, with its own gradient; none flows through mean and variance."""
    return _forward(x, scale, bias, epsilon, activation)[0]


def _forward(x, scale, bias, epsilon, activation):
    mean, variance = _moments(x)
    y = activation(_affine(x, mean, lax.rsqrt(variance + epsilon) * scale, bias))
    residuals = x, mean, variance, scale, bias
    return (y.astype(x.dtype), mean, variance), residuals


def _backward(epsilon, activation, residuals, cotangents):
    x, mean, variance, scale, bias = residuals
    dy = cotangents[0].astype(jnp.float32)
    rate = lax.rsqrt(variance + epsilon)
    slope = rate * scale
    # With g the gradient behind the affine map and h the normalised input:
    # dx = slope * (g - mean(g) - h * mean(g * h)).
    (g,) = jax.vjp(activation, _affine(x, mean, slope, bias))[1](dy)
    wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    dbias = g.sum(axes)
    dscale = ((g * wide).sum(axes) - mean * dbias) * rate
    # Parameters have the gradients of this share, and inputs those of the whole batch.
    whole_bias, whole_scale = place().summed((dbias, dscale))
    count = place().count(x.size // x.shape[-1])
    tilt = -slope * rate * whole_scale / count
    dx = g * slope + wide * tilt - (slope * whole_bias / count + mean * tilt)
    return dx.astype(x.dtype), dscale, dbias


batch_norm.defvjp(_forward, _backward)


def normalised(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: Activation,
) -> jax.Array:
    """The same with statistics that are given, as in evaluation."""
    slope = lax.rsqrt(variance + epsilon) * scale
    return activation(_affine(x, mean, slope, bias)).astype(x.dtype)


def _affine(x, mean, slope, bias):
    return x.astype(jnp.float32) * slope + (bias - mean * slope)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of each channel over the whole batch, in float32."""
    total, squares = place().summed(sums(x))
    count = place().count(x.size // x.shape[-1])
    mean = total / count
    return mean, jnp.maximum(squares / count - mean * mean, 0)
