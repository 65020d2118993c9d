"""Values and gradients of an operation beside those of its reference."""

import jax
import jax.numpy as jnp
import numpy as np


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
