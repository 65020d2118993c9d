"""Every parameter of every kind of network: which decay, and which are sharded."""

import jax
import jax.numpy as jnp
import pytest

from hybrid_jax.models import create_model
from hybrid_jax.models.registry import MODELS, ViTRow
from hybrid_jax.parallel.mesh import Jit
from hybrid_jax.training import optimizers
from tests.parallel.test_mesh import meshed, specs

# By the last name of the path and the dimensions. A layer with a parameter of another
# name or shape has to be added here, to one or to the other.
WEIGHTS = {("kernel", 2), ("kernel", 4), ("qkv", 3)}
OTHERS = {
    ("attention_scale", 1),
    ("bias", 1),
    ("class_token", 1),
    ("mlp_scale", 1),
    ("scale", 1),
    ("bias_table", 3),
    ("column_embedding", 3),
    ("position_embedding", 2),
    ("row_embedding", 3),
}
# Whose learning rate falls with the distance from the head; the first come before all.
BEFORE_BLOCKS = {"stem", "patch_embedding", "class_token", "position_embedding"}


def kinds():
    """The narrowest model for each choice of letters and block config."""
    chosen = {}
    for name, row in MODELS.items():
        letters = (
            () if isinstance(row, ViTRow) else tuple(sorted({*"".join(row.stack)}))
        )
        chosen.setdefault((letters, row.block_config), name)
    return sorted(chosen.values())


def parameters(name):
    row = MODELS[name]
    if isinstance(row, ViTRow):
        short = {"depth": 1}
    else:
        short = {"depths": (1,) * len(row.depths)}
    model = create_model(name, 10, 32, **short)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


@pytest.fixture(scope="module")
def networks():
    return {name: parameters(name) for name in kinds()}


def kind(path, x):
    return path[-1].key, x.ndim


def test_every_parameter_is_known_to_be_a_weight_or_something_else(networks):
    found = {
        kind(path, x)
        for params in networks.values()
        for path, x in jax.tree_util.tree_leaves_with_path(params)
    }
    assert found == WEIGHTS | OTHERS


def test_weights_decay_and_nothing_else_does(networks):
    for name, params in networks.items():
        leaves = jax.tree_util.tree_leaves_with_path(params)
        decayed = jax.tree.leaves(optimizers.decay_mask(params))
        for (path, x), decays in zip(leaves, decayed, strict=True):
            assert decays == (kind(path, x) in WEIGHTS), (name, path)


def test_weights_are_sharded_and_nothing_else_is(networks):
    for name, params in networks.items():
        sharded = list(specs(meshed(Jit, 1, 2).state_shapes(params)).values())
        leaves = jax.tree_util.tree_leaves_with_path(params)
        for (path, x), spec in zip(leaves, sharded, strict=True):
            assert ("fsdp" in spec) == (kind(path, x) in WEIGHTS), (name, path)


def test_layers_are_those_before_the_blocks_the_blocks_and_the_head(networks):
    for name, params in networks.items():
        blocks = {module for module in params if "block" in module}
        assert params.keys() - blocks - BEFORE_BLOCKS == {"head"}, name
        factors = optimizers.layer_factors(params, 0.5)
        rates = {module: jax.tree.leaves(factors[module])[0] for module in params}
        assert {rates[module] for module in blocks} == {
            0.5**n for n in range(1, 1 + len(blocks))
        }
        assert rates["head"] == 1
