"""Softmax attention with a bias that all images share.

Shapes: `B` batch, `P` positions, `N` heads, `D` head size.
"""

import re

import jax
import jax.numpy as jnp
from jax import nn

from hybrid_jax.ops.backend import forms

# The fused kernel keeps the weights, `[B, N, P, P]`, out of memory. From so many
# positions it is used; at 49, the last map of 224 px, they are a megabyte an image, and
# it would have little to save. `benchmarks/attention.py` compares the two on a GPU; we
# had none to choose the number by.
FUSED_FROM = 128


def attention_reference(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """`softmax(q k / sqrt(D) + bias) v`.

    Args:
      q, k, v: `[B, P, N, D]`.
      bias: float32 `[N, P, P]`, or None for 0.

    Returns:
      `[B, P, N, D]`; products are in the type of `v`, scores and softmax in float32.
    """
    weights = nn.softmax(scores(q, k) + (0 if bias is None else bias))
    return jnp.einsum("bnij,bjnd->bind", weights.astype(v.dtype), v)


def scores(q: jax.Array, k: jax.Array) -> jax.Array:
    """`q k / sqrt(D)`, float32 `[B, N, P, P]`."""
    products = jnp.einsum("bind,bjnd->bnij", q, k, preferred_element_type=jnp.float32)
    return products * q.shape[-1] ** -0.5


def attention_fused(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None,
    implementation: str = "cudnn",
) -> jax.Array:
    """The same in one kernel, with the bias rounded to the type of `q`.

    cuDNN takes a bias over an even number of positions, so an odd one is filled up with
    a position that nobody attends to.
    """
    positions = q.shape[1]
    odd = 0 if bias is None else positions % 2
    if odd:
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
    """The faster of the two on the device that is traced for, for its shape."""
    worth = forms() == "gpu" and q.shape[1] >= FUSED_FROM
    fused = worth and fusible(q, jax.devices()[0])
    return (attention_fused if fused else attention_reference)(q, k, v, bias)


def fusible(q: jax.Array, device: jax.Device) -> bool:
    """Whether a device has the fused kernel for an array's type and head size."""
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    return half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128 and _is_ampere(device)


def _is_ampere(device: jax.Device) -> bool:
    """An NVIDIA GPU of 2020 or later; AMD's have names for capabilities."""
    capability = str(getattr(device, "compute_capability", ""))
    number = re.fullmatch(r"(\d+)\.\d+", capability)
    return device.platform == "gpu" and bool(number) and int(number[1]) >= 8
