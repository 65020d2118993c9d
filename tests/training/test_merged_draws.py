"""Merged draws give the numbers of single ones, with fewer calls of the generator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax import create_model
from hybrid_jax.training.merged_draws import merge_draws


def _layers(key, scale):
    keys = [jax.random.fold_in(key, i) for i in range(6)]
    normal = [scale * jax.random.normal(k, (3, 4)) for k in keys[:3]]
    wide = [jax.random.normal(k, (5,)) / 3 for k in keys[2:4]]
    uniform = jax.random.uniform(keys[4], (3, 4), minval=-1.0, maxval=2.0)
    cut = [
        jax.random.truncated_normal(k, -2.0, 2.0, (2, i)) for i, k in enumerate(keys)
    ]
    whole = jax.random.randint(keys[5], (5,), 0, 9)
    other = jax.random.normal(jax.random.key(1, impl="rbg"), (2,))
    long = [jax.random.normal(k, (300, 300)) for k in keys[:2]]
    return normal, wide, uniform, cut, whole, other, long, jnp.zeros(2)


def _depending_on_draws(key, scale):
    number = jax.random.randint(key, (), 0, 100)
    key = jax.random.fold_in(key, number)
    return [scale * jax.random.normal(jax.random.fold_in(key, i), (7,)) for i in (1, 2)]


def _without_draws(key, scale):
    del key
    return {"a": scale + 1, "b": scale}


@pytest.mark.parametrize("function", [_layers, _depending_on_draws, _without_draws])
@pytest.mark.parametrize("jitted", [False, True])
def test_numbers_are_those_of_single_draws(function, jitted):
    merged = merge_draws(function)
    merged = jax.jit(merged) if jitted else merged
    expected = function(jax.random.key(3), 2.0)
    found = merged(jax.random.key(3), 2.0)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
    )


def _count(primitive, jaxpr):
    inner = (eqn.params["jaxpr"].jaxpr for eqn in jaxpr.eqns if "jaxpr" in eqn.params)
    own = sum(eqn.primitive.name == primitive for eqn in jaxpr.eqns)
    return own + sum(_count(primitive, each) for each in inner)


def test_small_draws_of_one_distribution_are_one():
    single, merged = (
        jax.make_jaxpr(function)(jax.random.key(0), 2.0).jaxpr
        for function in (_layers, merge_draws(_layers))
    )
    assert _count("random_fold_in", single) == 6
    assert _count("random_fold_in", merged) == 1
    assert _count("random_bits", single) == 3 + 2 + 1 + 6 + 2 + 1 + 2
    # Normal ones small and large, two others, integers by two, another generator's.
    assert _count("random_bits", merged) == 2 + 2 + 2 + 1


def test_draws_whose_numbers_depend_on_their_size_keep_it():
    """As all did by default before jax 0.5."""
    with jax.threefry_partitionable(False):
        expected, found = (
            f(jax.random.key(3), 2.0) for f in (_layers, merge_draws(_layers))
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
    )


def test_xla_computes_merged_draws_once_and_not_in_each_of_their_slices():
    def draws(key):
        return [scale * jax.random.normal(k, (9,)) for scale, k in enumerate(key)]

    keys = jax.random.split(jax.random.key(0), 6)
    single, merged = (
        jax.jit(function).lower(keys).compile().as_text().count("erf_inv")
        for function in (draws, merge_draws(draws))
    )
    assert 0 < merged < single / 3


def test_a_network_has_the_weights_of_flax():
    model = create_model("astroformer_femto", 10, 16)
    images = jnp.zeros((1, 16, 16, 3))
    expected = jax.jit(model.init)(jax.random.key(1), images)
    found = jax.jit(merge_draws(model.init))(jax.random.key(1), images)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for path, weights in jax.tree_util.tree_leaves_with_path(expected):
        other = found
        for step in path:
            other = other[step.key]
        np.testing.assert_allclose(other, weights, rtol=1e-5, atol=1e-7, err_msg=path)
