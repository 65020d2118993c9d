"""Hand-written operations against their references: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.ops.choice import plain_operations
from hybrid_jax.ops.convolution import convolution_product, convolution_reference
from hybrid_jax.ops.depthwise import (
    CACHE_BYTES,
    depthwise,
    depthwise_reference,
    depthwise_shifted,
)
from hybrid_jax.ops.gelu import gelu, gelu_reference


def arrays(*shapes, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def value_and_grads(fn, *args):
    """The value, and the gradients of a sum that weighs every output differently."""

    def weighted(*args):
        y = fn(*args)
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return (y.astype(jnp.float32) * weights).sum(), y

    both = jax.value_and_grad(weighted, range(len(args)), has_aux=True)
    (_, y), grads = jax.jit(both)(*args)
    return [y, *grads]


def assert_equal(ours, theirs, dtype):
    tolerance = {"float32": 1e-5, "bfloat16": 4e-2}[jnp.dtype(dtype).name]
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


PADDINGS = ["symmetric", "same"]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 4), (1, 1)])
def test_depthwise(size, stride, padding, dtype):
    x, kernel = arrays((3, *size, 6), (3, 3, 1, 6), dtype=dtype)
    how = {"stride": stride, "padding": padding}
    ours = value_and_grads(lambda x, k: depthwise_shifted(x, k, **how), x, kernel)
    theirs = value_and_grads(lambda x, k: depthwise_reference(x, k, **how), x, kernel)
    assert_equal(ours, theirs, dtype)


def test_depthwise_gradient_of_a_batch_that_is_cut_into_pieces():
    x, kernel = arrays((12, 32, 32, 64), (3, 3, 1, 64))
    assert x.size * 4 > 2 * CACHE_BYTES
    ours = value_and_grads(depthwise_shifted, x, kernel)
    theirs = value_and_grads(depthwise_reference, x, kernel)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("size", "taps"), [((8, 8), 3), ((7, 9), 3), ((1, 1), 3), ((6, 5), 7)]
)
def test_convolution(size, taps, stride, padding, dtype):
    x, kernel = arrays((2, *size, 3), (taps, taps, 3, 5), dtype=dtype)
    how = {"stride": stride, "padding": padding}
    ours = value_and_grads(lambda x, k: convolution_product(x, k, **how), x, kernel)
    theirs = value_and_grads(lambda x, k: convolution_reference(x, k, **how), x, kernel)
    assert_equal(ours, theirs, dtype)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("length", [1, 4, 5, 8])
def test_same_padding_is_that_of_xla(length, stride):
    x, kernel = arrays((1, length, length, 2), (3, 3, 2, 2))
    ours = convolution_reference(x, kernel, stride, "same")
    theirs = jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_array_equal(ours, theirs)


def test_plain_operations_are_convolutions():
    x, kernel = arrays((1, 8, 8, 4), (3, 3, 1, 4))

    def operations():
        return str(jax.make_jaxpr(lambda x, k: depthwise(x, k))(x, kernel))

    assert ("conv_general_dilated" in operations()) == (jax.default_backend() != "cpu")
    with plain_operations():
        assert "conv_general_dilated" in operations()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gelu(dtype):
    x = jnp.linspace(-6, 6, 1001, dtype=dtype)
    ours, theirs = value_and_grads(gelu, x), value_and_grads(gelu_reference, x)
    assert_equal(ours, theirs, dtype)
