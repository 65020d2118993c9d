"""Softmax attention with a bias that is equal for all images.

Shapes: `B` batch, `P` positions, `N` heads, `D` head size.
"""

import re
from typing import Literal

import jax
import jax.numpy as jnp
from jax import nn

from hybrid_jax.ops.backend import is_compiling_for_chips, target_backend
from hybrid_jax.ops.precision import at_least_float32

# Number of positions from which the fused kernel is used. It keeps the weights,
# `[B, N, P, P]`, out of memory; at 49, the last map of 224 px, they are a megabyte an
# image, and it would save little. `benchmarks/attention.py` compares the two on a GPU;
# the number was not chosen by a measurement.
FUSED_FROM = 128


def attention_reference(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """Compute `softmax(q k / sqrt(D) + bias) v`.

    Args:
      q, k, v: `[B, P, N, D]`.
      bias: float32 `[N, P, P]`, or None for 0.

    Returns:
      `[B, P, N, D]`; products are in the type of `v`, scores and softmax in float32.
    """
    weights = nn.softmax(attention_scores(q, k) + (0 if bias is None else bias))
    return jnp.einsum("bnij,bjnd->bind", weights.astype(v.dtype), v)


def attention_scores(q: jax.Array, k: jax.Array) -> jax.Array:
    """Compute `q k / sqrt(D)`, float32 `[B, N, P, P]`."""
    wide = at_least_float32(q.dtype)
    products = jnp.einsum("bind,bjnd->bnij", q, k, preferred_element_type=wide)
    return products * q.shape[-1] ** -0.5


def attention_fused(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None,
    implementation: Literal["xla", "cudnn"] = "cudnn",
) -> jax.Array:
    """Compute attention in one kernel, with the bias rounded to the type of `q`.

    cuDNN takes a bias over an even number of positions, so an odd one is padded with a
    position that is masked out.
    """
    positions = q.shape[1]
    odd = positions % 2
    if bias is not None and odd:
        q, k, v = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (q, k, v))
        bias = jnp.pad(bias, ((0, 0), (0, 1), (0, 0)))
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, 1)), constant_values=-1e9)
    if bias is not None:
        bias = bias[None].astype(q.dtype)
    y = nn.dot_product_attention(q, k, v, bias, implementation=implementation)
    return y[:, :positions]


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """Compute attention by the faster implementation for the device and shape."""
    many = target_backend() == "gpu" and q.shape[1] >= FUSED_FROM
    # cuDNN, whose kernel it is, makes it on the GPU that it is for.
    is_here = not is_compiling_for_chips()
    if many and is_here and has_fused_kernel(q, jax.devices()[0]):
        return attention_fused(q, k, v, bias)
    return attention_reference(q, k, v, bias)


def has_fused_kernel(q: jax.Array, device: jax.Device) -> bool:
    """Return whether a device has the fused kernel for a type and head size."""
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    return half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128 and _is_ampere(device)


def _is_ampere(device: jax.Device) -> bool:
    """Return whether a device is an NVIDIA GPU of 2020 or later.

    AMD's GPUs have names in the place of numbers.
    """
    capability = str(getattr(device, "compute_capability", ""))
    number = re.fullmatch(r"(\d+)\.\d+", capability)
    return device.platform == "gpu" and number is not None and int(number[1]) >= 8
