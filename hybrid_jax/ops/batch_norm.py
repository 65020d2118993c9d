"""Batch norm and the activation after it, as one operation.

Autodiff would store the centered map, the normalized map and intermediates of the
activation, and read each again. This stores the input alone, whatever the activation.
The backward pass recomputes the rest within the three passes over memory that it needs.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.batch_axis import current_axis
from hybrid_jax.ops.channel_sums import channel_sums
from hybrid_jax.ops.derivatives import define_derivatives
from hybrid_jax.ops.precision import at_least_float32

Activation = Callable[[jax.Array], jax.Array]


def batch_norm_reference(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: Activation,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalize each channel, then apply the activation.

        y = activation(scale * (x - mean) / sqrt(variance + epsilon) + bias)

    Args:
      x: `[..., C]`, of any float type; the result has the same.
      scale, bias: float32 `[C]`.
      epsilon: added to the variance.
      activation: elementwise.

    Returns:
      The result `[..., C]`, and the mean and the biased variance, float32 `[C]`.
    """
    wide, axes = x.astype(at_least_float32(x.dtype)), tuple(range(x.ndim - 1))
    mean, variance = wide.mean(axes), wide.var(axes)
    y = activation((wide - mean) * lax.rsqrt(variance + epsilon) * scale + bias)
    return y.astype(x.dtype), mean, variance


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: Activation,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute `batch_norm_reference` over the whole batch, with its own derivatives.

    No derivative passes through the returned mean and variance.
    """
    return _forward(x, scale, bias, epsilon, activation)[0]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: Activation,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    mean, variance = moments(x)
    y = activation(_affine(x, mean, lax.rsqrt(variance + epsilon) * scale, bias))
    residuals = x, mean, variance, scale, bias
    return (y.astype(x.dtype), mean, variance), residuals


def _tangent(
    epsilon: float,
    activation: Activation,
    residuals: tuple[jax.Array, ...],
    dx: jax.Array,
    dscale: jax.Array,
    dbias: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, variance, scale, bias = residuals
    rate = lax.rsqrt(variance + epsilon)
    slope, axes = rate * scale, tuple(range(x.ndim - 1))
    wide, dx = (a.astype(at_least_float32(x.dtype)) for a in (x, dx))
    # With h the normalized input, the tangent after the affine map is
    # slope * (dx - mean(dx) - h * mean(h * dx)) + h * dscale + dbias.
    sums = current_axis().psum((dx.sum(axes), (dx * wide).sum(axes)))
    count = current_axis().global_size(x.size // x.shape[-1])
    dmean, product = (total / count for total in sums)
    tilt = rate * (dscale - slope * rate * (product - mean * dmean))
    g = dx * slope + wide * tilt + (dbias - slope * dmean - mean * tilt)
    _, dy = jax.jvp(activation, [_affine(x, mean, slope, bias)], [g])
    return dy.astype(x.dtype), jnp.zeros_like(mean), jnp.zeros_like(variance)


def _backward(
    epsilon: float,
    activation: Activation,
    residuals: tuple[jax.Array, ...],
    cotangents: tuple[jax.Array, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, variance, scale, bias = residuals
    dy = cotangents[0].astype(at_least_float32(x.dtype))
    rate = lax.rsqrt(variance + epsilon)
    slope = rate * scale
    # With g the gradient after the affine map and h the normalized input:
    # dx = slope * (g - mean(g) - h * mean(g * h)).
    (g,) = jax.vjp(activation, _affine(x, mean, slope, bias))[1](dy)
    wide, axes = x.astype(at_least_float32(x.dtype)), tuple(range(x.ndim - 1))
    dbias = g.sum(axes)
    dscale, tilt, shift = through_statistics(
        dbias,
        (g * wide).sum(axes),
        mean=mean,
        rate=rate,
        slope=slope,
        positions=x.size // x.shape[-1],
    )
    dx = g * slope + wide * tilt + shift
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype)


define_derivatives(batch_norm, _forward, _tangent, _backward)


def through_statistics(
    total: jax.Array,
    products: jax.Array,
    *,
    mean: jax.Array,
    rate: jax.Array,
    slope: jax.Array,
    positions: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the gradient of the scale, and what passes through mean and variance.

    With `g` the gradient after the affine map, the gradient of the norm's input `x` is
    `g * slope + x * tilt + shift`. Every array is float32 `[C]`.

    Args:
      total: sum of `g` over this shard.
      products: sum of `g * x` over this shard.
      mean: of `x`.
      rate: one over the standard deviation of `x`.
      slope: `rate` times the scale.
      positions: values of a channel in this shard.

    Returns:
      The gradient of the scale from this shard, the tilt and the shift.
    """
    dscale = (products - mean * total) * rate
    # Parameters get the gradients of this shard, and inputs those of the whole batch.
    whole_total, whole_scale = current_axis().psum((total, dscale))
    count = current_axis().global_size(positions)
    tilt = -slope * rate * whole_scale / count
    return dscale, tilt, -(slope * whole_total / count + mean * tilt)


def normalize(
    x: jax.Array,
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    activation: Activation,
) -> jax.Array:
    """Normalize with given statistics, as in evaluation; shapes as in `batch_norm`."""
    slope, term = affine_of(mean, variance, scale, bias, epsilon)
    wide = x.astype(at_least_float32(x.dtype))
    return activation(wide * slope + term).astype(x.dtype)


def affine_of(
    mean: jax.Array,
    variance: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
) -> tuple[jax.Array, jax.Array]:
    """Return the factor and term, `[C]`, by which statistics normalize each channel."""
    slope = lax.rsqrt(variance + epsilon) * scale
    return slope, bias - mean * slope


def _affine(
    x: jax.Array, mean: jax.Array, slope: jax.Array, bias: jax.Array
) -> jax.Array:
    return x.astype(at_least_float32(x.dtype)) * slope + (bias - mean * slope)


def moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return mean and biased variance of each channel over the whole batch."""
    total, squares = current_axis().psum(channel_sums(x))
    count = current_axis().global_size(x.size // x.shape[-1])
    mean = total / count
    return mean, jnp.maximum(squares / count - mean * mean, 0)
