"""Packed vectors: what goes in comes out, and so do gradients and paths."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.models import create_model
from hybrid_jax.training import optimizers
from hybrid_jax.training.freezing import frozen_mask
from hybrid_jax.training.packed_params import PackedBlock, pack, pack_like, unpack


@pytest.fixture(scope="module")
def params():
    model = create_model("astroformer_pico", 3, 16)
    images = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


def names(tree):
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return ["/".join(key.key for key in path) for path, _ in paths]


@pytest.mark.parametrize("library", [np, jnp])
def test_what_is_packed_comes_out_as_it_was(params, library):
    params = jax.tree.map(library.asarray, params)
    packed = pack(params)
    assert len(jax.tree.leaves(packed)) < len(jax.tree.leaves(params)) / 2
    plain = unpack(packed)
    jax.tree.map(np.testing.assert_array_equal, plain, params)
    assert all(isinstance(x, library.ndarray) for x in jax.tree.leaves(plain))
    jax.tree.map(np.testing.assert_array_equal, pack_like(plain, packed), packed)


def test_what_has_no_packed_blocks_stays_as_it_is(params):
    assert unpack(params) is not None
    jax.tree.map(np.testing.assert_array_equal, unpack(params), params)
    jax.tree.map(np.testing.assert_array_equal, pack_like(params, params), params)
    alone = {"token": np.ones(4), "head": {"bias": np.ones(3)}}
    assert not any(isinstance(x, PackedBlock) for x in pack(alone).values())


def test_gradients_are_those_of_the_vectors(params):
    def loss(params):
        return sum(
            jnp.sum(jnp.sin(x) * i) for i, x in enumerate(jax.tree.leaves(params))
        )

    expected = jax.jit(jax.grad(loss))(params)
    gradient = jax.jit(jax.grad(lambda packed: loss(unpack(packed))))(pack(params))
    assert jax.tree.structure(gradient) == jax.tree.structure(pack(params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        unpack(gradient),
        expected,
    )


def test_backward_pads_no_vector(params):
    def loss(packed):
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(unpack(packed)))

    assert "pad[" not in str(jax.make_jaxpr(jax.grad(loss))(pack(params)))


def test_what_is_frozen_keeps_its_own_path(params):
    patterns = ("norm/scale", "stage1")
    packed = pack(params, frozen_mask(params, patterns))
    still = dict(
        zip(
            names(packed),
            jax.tree.leaves(frozen_mask(packed, patterns)),
            strict=True,
        )
    )
    plain = dict(
        zip(
            names(params),
            jax.tree.leaves(frozen_mask(params, patterns)),
            strict=True,
        )
    )
    assert {n for n, s in still.items() if s} == {n for n, s in plain.items() if s}
    assert any(name.endswith("/vectors") for name in still)
    jax.tree.map(np.testing.assert_array_equal, unpack(packed), params)


def test_what_optax_masks_out_comes_back_too(params):
    """Muon has moments of matrices alone, so its vectors are empty nodes."""
    config = OptimConfig(name="muon")
    optimizer = optimizers.create_optimizer(
        optimizers.muon, optax.constant_schedule(1.0), config
    )
    state = optimizer.init(pack(jax.tree.map(jnp.asarray, params)))
    again = pack_like(unpack(state), state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    stored = jax.tree.map(np.asarray, unpack(state))  # as it is on disk
    again = pack_like(stored, state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
