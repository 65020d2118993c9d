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

# Smallest number of positions for the fused kernel, which keeps the weights
# `[B, N, P, P]` out of memory. At 49 positions, the last map of 224 px, they take only
# 0.2 MB per image and block with 24 heads. `benchmarks/attention.py` compares both
# implementations on a GPU; the number was not chosen by a measurement.
FUSED_FROM = 128


def attention_reference(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """Compute `softmax(q k / sqrt(D) + bias) v`.

    Args:
      q, k, v: `[B, P, N, D]`.
      bias: float32 `[N, P, P]`, or None for 0.

    Returns:
      `[B, P, N, D]`; products are in the dtype of `v`, scores and softmax in float32.
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
    """Compute `attention_reference` in one kernel, the bias rounded to `q.dtype`.

    cuDNN needs a bias over an even number of positions, so an odd number is padded with
    a position that is masked out.
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
    """Compute `attention_reference` by the faster implementation for the device.

    Args:
      q, k, v: `[B, P, N, D]`.
      bias: float32 `[N, P, P]`, or None for 0.
    """
    many = target_backend() == "gpu" and q.shape[1] >= FUSED_FROM
    # cuDNN can make its kernel only on the GPU that will run it.
    is_here = not is_compiling_for_chips()
    if many and is_here and has_fused_kernel(q, jax.devices()[0]):
        return attention_fused(q, k, v, bias)
    return attention_reference(q, k, v, bias)


def has_fused_kernel(q: jax.Array, device: jax.Device) -> bool:
    """Return whether a device has the fused kernel for the dtype and heads of `q`."""
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    return half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128 and _is_ampere(device)


def _is_ampere(device: jax.Device) -> bool:
    """Return whether a device is an NVIDIA GPU of 2020 or later.

    The compute capability of AMD's GPUs is a name instead of a number.
    """
    capability = str(getattr(device, "compute_capability", ""))
    number = re.fullmatch(r"(\d+)\.\d+", capability)
    return device.platform == "gpu" and number is not None and int(number[1]) >= 8
