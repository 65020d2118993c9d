"""Hand-written operations against their references: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.ops.convolution import conv3x3_product, conv3x3_reference
from hybrid_jax.ops.depthwise import (
    CACHE_BYTES,
    depthwise_reference,
    depthwise_shifted,
)
from hybrid_jax.ops.gelu import gelu, gelu_reference


def arrays(*shapes, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def value_and_grads(fn, *args):
    """The value, and the gradients of a sum that weighs every output differently."""
    y = fn(*args)
    weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)

    def weighted(*args):
        return (fn(*args).astype(jnp.float32) * weights).sum()

    return [y, *jax.grad(weighted, range(len(args)))(*args)]


def assert_equal(ours, theirs, dtype):
    tolerance = {"float32": 1e-5, "bfloat16": 4e-2}[jnp.dtype(dtype).name]
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 4), (1, 1)])
def test_depthwise(size, stride, dtype):
    x, kernel = arrays((3, *size, 6), (3, 3, 1, 6), dtype=dtype)
    ours = value_and_grads(lambda x, k: depthwise_shifted(x, k, stride), x, kernel)
    theirs = value_and_grads(lambda x, k: depthwise_reference(x, k, stride), x, kernel)
    assert_equal(ours, theirs, dtype)


def test_depthwise_gradient_of_a_batch_that_is_cut_into_pieces():
    x, kernel = arrays((12, 32, 32, 64), (3, 3, 1, 64))
    assert x.size * 4 > 2 * CACHE_BYTES
    ours = value_and_grads(depthwise_shifted, x, kernel)
    theirs = value_and_grads(depthwise_reference, x, kernel)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1)])
def test_conv3x3(size, stride, dtype):
    x, kernel = arrays((2, *size, 3), (3, 3, 3, 5), dtype=dtype)
    ours = value_and_grads(lambda x, k: conv3x3_product(x, k, stride), x, kernel)
    theirs = value_and_grads(lambda x, k: conv3x3_reference(x, k, stride), x, kernel)
    assert_equal(ours, theirs, dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gelu(dtype):
    x = jnp.linspace(-6, 6, 1001, dtype=dtype)
    ours, theirs = value_and_grads(gelu, x), value_and_grads(gelu_reference, x)
    assert_equal(ours, theirs, dtype)
