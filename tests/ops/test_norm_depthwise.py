"""The kernels of a norm and a depthwise convolution, interpreted on any device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.models.block_config import PAPER, replace
from hybrid_jax.models.blocks import MBConv
from hybrid_jax.models.layers import ACTIVATIONS
from hybrid_jax.ops.depthwise_kernels import _activate
from hybrid_jax.ops.gelu import gelu
from hybrid_jax.ops.norm_depthwise import norm_depthwise, norm_depthwise_reference
from tests.commands import hybrid_jax
from tests.ops.compared import arrays, assert_equal, value_and_grads


def operands(size, channels, dtype=jnp.float32):
    x, kernel = arrays((2, *size, channels), (3, 3, 1, channels), dtype=dtype)
    scale, bias = arrays((channels,), (channels,))
    return 2 * x + 1, 1 + scale / 4, bias, kernel


@pytest.mark.parametrize(
    ("size", "stride", "padding", "channels", "activation", "dtype"),
    [
        ((7, 9), 1, "symmetric", 3, "gelu", jnp.float32),
        ((8, 6), 2, "symmetric", 6, "gelu", jnp.bfloat16),
        ((5, 4), 2, "same", 2, "silu", jnp.float32),
        ((4, 6), 2, "circular", 1, "relu", jnp.float32),
        ((1, 1), 1, "circular", 128, "gelu_tanh", jnp.bfloat16),
    ],
)
def test_values_and_gradients(size, stride, padding, channels, activation, dtype):
    how = 1e-3, ACTIVATIONS[activation], stride, padding
    args = operands(size, channels, dtype)
    ours, theirs = (
        value_and_grads(lambda *args, f=f: f(*args, *how)[0], *args)
        for f in (norm_depthwise, norm_depthwise_reference)
    )
    assert_equal(ours, theirs, dtype)
    ours, theirs = (
        f(*args, *how)[1:] for f in (norm_depthwise, norm_depthwise_reference)
    )
    assert_equal(ours, theirs, dtype)


def test_a_program_of_many_tiles_covers_the_whole_map():
    how = 1e-3, gelu, 1, "symmetric"
    args = operands((25, 24), 1)  # more than one program, and an end within a tile
    ours, theirs = (
        value_and_grads(lambda *args, f=f: f(*args, *how)[0], *args)
        for f in (norm_depthwise, norm_depthwise_reference)
    )
    assert_equal(ours, theirs, jnp.float32)


def test_forward_mode():
    args = operands((5, 4), 3)
    tangents = tuple(jnp.cos(3 * a) for a in args)
    ours, theirs = (
        jax.jvp(lambda *args, f=f: f(*args, 1e-3, gelu, 2)[0], args, tangents)
        for f in (norm_depthwise, norm_depthwise_reference)
    )
    assert_equal(ours, theirs, jnp.float32)


def test_gelu_without_an_error_function():
    z = jnp.linspace(-12, 12, 10_001, dtype=jnp.float32)
    value, slope = _activate(gelu, z)
    np.testing.assert_allclose(value, gelu(z), rtol=0, atol=1e-6)
    np.testing.assert_allclose(slope, jax.vmap(jax.grad(gelu))(z), rtol=0, atol=1e-6)


def test_a_block_is_the_same_by_either_kernels():
    (x,) = arrays((2, 5, 6, 4))
    found = []
    for kernels in ("xla", "pallas"):
        block = MBConv(4, 2, block_config=replace(PAPER, kernels=kernels))
        variables = block.init(jax.random.key(0), x, train=False)

        def train(params, x, block=block, rest=variables):
            y, updated = block.apply(
                rest | {"params": params}, x, train=True, mutable=["batch_stats"]
            )
            return (y**2).sum(), updated["batch_stats"]

        step = jax.jit(jax.value_and_grad(train, (0, 1), has_aux=True))
        found.append(step(variables["params"], x))
    near = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(near, *found)
    assert jax.tree.structure(found[0]) == jax.tree.structure(found[1])


def test_a_device_without_these_kernels_is_named(tmp_path):
    run = hybrid_jax(
        "--config=digits",
        "--config.train.kernels=pallas",
        f"--workdir={tmp_path / 'run'}",
    )
    assert run.returncode == 2
    needs = "config.train.kernels=pallas needs a GPU, not a cpu: leave it out"
    assert needs in run.stderr
    assert not (tmp_path / "run").exists()
