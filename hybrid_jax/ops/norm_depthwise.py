"""Batch norm, activation and depthwise convolution as one operation in training.

The map between norm and convolution is the network's largest. Separate operations write
it, read it, keep it for the gradient, and read it again. This saves only the input, and
its GPU kernels compute the rest again, see `depthwise_kernels`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import target_backend
from hybrid_jax.ops.batch_norm import affine_of, batch_norm, moments, through_statistics
from hybrid_jax.ops.depthwise_conv import depthwise_reference
from hybrid_jax.ops.depthwise_layout import Layout
from hybrid_jax.ops.derivatives import define_derivatives

Activation = Callable[[jax.Array], jax.Array]


def norm_depthwise_reference(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    kernel: jax.Array,
    epsilon: float,
    activation: Activation,
    stride: int = 1,
    padding: str = "symmetric",
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalize each channel, apply the activation, and convolve channel by channel.

    Args:
      x: `[B, H, W, C]`, of any float type; the result has the same.
      scale, bias: of the norm, float32 `[C]`.
      kernel: `[3, 3, 1, C]`.
      epsilon: added to the variance.
      activation: elementwise.
      stride, padding: as in `depthwise_reference`.

    Returns:
      The result `[B, ceil(H/stride), ceil(W/stride), C]`, and the mean and the biased
      variance of `x`, float32 `[C]`.
    """
    a, mean, variance = batch_norm(x, scale, bias, epsilon, activation)
    return depthwise_reference(a, kernel, stride, padding), mean, variance


@partial(jax.custom_jvp, nondiff_argnums=(4, 5, 6, 7))
def norm_depthwise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    kernel: jax.Array,
    epsilon: float,
    activation: Activation,
    stride: int = 1,
    padding: str = "symmetric",
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute `norm_depthwise_reference` by kernels of their own.

    On other devices than GPUs, JAX interprets the kernels, which is slow.
    """
    return _forward(x, scale, bias, kernel, epsilon, activation, stride, padding)[0]


def _forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    kernel: jax.Array,
    epsilon: float,
    activation: Activation,
    stride: int,
    padding: str,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    from hybrid_jax.ops import depthwise_kernels as kernels

    mean, variance = moments(x)
    affine = jnp.stack(affine_of(mean, variance, scale, bias, epsilon))
    layout = _layout(x, stride, padding)
    y = kernels.convolve(x, affine, kernel, activation, layout, _is_interpreted())
    return (y, mean, variance), (x, mean, variance, scale, bias, kernel)


def _tangent(
    epsilon: float,
    activation: Activation,
    stride: int,
    padding: str,
    residuals: tuple[jax.Array, ...],
    *tangents: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, _, _, scale, bias, kernel = residuals
    operation = partial(
        norm_depthwise_reference,
        epsilon=epsilon,
        activation=activation,
        stride=stride,
        padding=padding,
    )
    _, moved = jax.jvp(operation, (x, scale, bias, kernel), tangents)
    dy, dmean, dvariance = moved
    return dy, dmean, dvariance


def _backward(
    epsilon: float,
    activation: Activation,
    stride: int,
    padding: str,
    residuals: tuple[jax.Array, ...],
    cotangents: tuple[jax.Array, ...],
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    from hybrid_jax.ops import depthwise_kernels as kernels

    x, mean, variance, scale, bias, kernel = residuals
    dy = cotangents[0].astype(x.dtype)
    slope, term = affine_of(mean, variance, scale, bias, epsilon)
    affine = jnp.stack([slope, term])
    layout = _layout(x, stride, padding)
    interpreted = _is_interpreted()
    dbias, products, dkernel = kernels.gradient_sums(
        x, dy, affine, kernel, activation, layout, interpreted
    )
    dscale, *through = through_statistics(
        dbias,
        products,
        mean=mean,
        rate=lax.rsqrt(variance + epsilon),
        slope=slope,
        positions=x.size // x.shape[-1],
    )
    dx = kernels.input_gradient(
        x, dy, affine, kernel, jnp.stack(through), activation, layout, interpreted
    )
    return (
        dx,
        dscale.astype(scale.dtype),
        dbias.astype(bias.dtype),
        dkernel.astype(kernel.dtype),
    )


define_derivatives(norm_depthwise, _forward, _tangent, _backward)


def _layout(x: jax.Array, stride: int, padding: str) -> Layout:
    _, height, width, _ = x.shape
    return Layout((height, width), stride, padding)


def _is_interpreted() -> bool:
    return target_backend() != "gpu"
