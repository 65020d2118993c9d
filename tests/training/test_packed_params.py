"""Bundles of vectors: what goes in comes out, and so do gradients and paths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.models import create_model
from hybrid_jax.training.freezing import frozen_mask
from hybrid_jax.training.packed_params import Bundle, bundled, rebundled, unbundled


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
def test_what_is_bundled_comes_out_as_it_was(params, library):
    params = jax.tree.map(library.asarray, params)
    bundle = bundled(params)
    assert len(jax.tree.leaves(bundle)) < len(jax.tree.leaves(params)) / 2
    plain = unbundled(bundle)
    jax.tree.map(np.testing.assert_array_equal, plain, params)
    assert all(isinstance(x, library.ndarray) for x in jax.tree.leaves(plain))
    jax.tree.map(np.testing.assert_array_equal, rebundled(plain, bundle), bundle)


def test_what_has_no_bundles_stays_as_it_is(params):
    assert unbundled(params) is not None
    jax.tree.map(np.testing.assert_array_equal, unbundled(params), params)
    jax.tree.map(np.testing.assert_array_equal, rebundled(params, params), params)
    alone = {"token": np.ones(4), "head": {"bias": np.ones(3)}}
    assert not any(isinstance(x, Bundle) for x in bundled(alone).values())


def test_gradients_are_those_of_the_vectors(params):
    def loss(params):
        return sum(
            jnp.sum(jnp.sin(x) * i) for i, x in enumerate(jax.tree.leaves(params))
        )

    expected = jax.grad(loss)(params)
    gradient = jax.grad(lambda bundle: loss(unbundled(bundle)))(bundled(params))
    assert jax.tree.structure(gradient) == jax.tree.structure(bundled(params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        unbundled(gradient),
        expected,
    )


def test_backward_pads_no_vector(params):
    def loss(bundle):
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(unbundled(bundle)))

    assert "pad[" not in str(jax.make_jaxpr(jax.grad(loss))(bundled(params)))


def test_what_is_frozen_keeps_its_own_path(params):
    patterns = ("norm/scale", "stage1")
    bundle = bundled(params, frozen_mask(params, patterns))
    still = dict(
        zip(
            names(bundle),
            jax.tree.leaves(frozen_mask(bundle, patterns)),
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
    jax.tree.map(np.testing.assert_array_equal, unbundled(bundle), params)
