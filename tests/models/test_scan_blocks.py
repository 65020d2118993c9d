"""Blocks that are scanned over, or computed anew, against blocks spelt out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from hybrid_jax.models import create_model
from hybrid_jax.runtime import jit_once
from tests.timm_oracle import random_arrays, shapes_of

# Letters with three alike blocks in a stage, a mixed stage, and a ViT.
NETWORKS = {
    "astroformer_pico": {
        "stack": "C-T",
        "widths": (16, 32),
        "depths": (3, 3),
        "stem_widths": (8, 8),
        "head_hidden": 0,
    },
    "coatnet_6": {
        "stack": "C-CT",
        "widths": (16, (16, 32)),
        "depths": (1, (2, 3)),
        "stem_widths": (8, 8),
        "head_hidden": 0,
    },
    "vit_tiny": {"width": 64, "depth": 3},
}


def network(name, **how):
    return create_model(name, 5, 32, **NETWORKS[name], **how)


def results(model, variables, images):
    """Gradients, logits and statistics of training."""

    def loss(params):
        logits, updated = model.apply(
            {**variables, "params": params},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(2)},
        )
        return (logits**2).sum(), (logits, updated)

    grads, aux = jit_once(jax.grad(loss, has_aux=True))(variables["params"])
    return [grads, *aux]


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for one, other in zip(ours, theirs, strict=True):
        leaves = [np.asarray(x) for x in jax.tree.leaves(other)]
        # Of what is zero but for rounding, such as a bias before a norm, the same
        # rounding cannot be asked.
        largest = max((np.abs(x).max() for x in leaves), default=0)
        for a, b in zip(jax.tree.leaves(one), leaves, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * largest)


@functools.cache
def spelt_out(name):
    """Variables and images of a network, and its results."""
    looped = network(name, drop_path=0.3, scan="off")
    images = jax.random.normal(jax.random.key(0), (8, *looped.image_size, 3))
    variables = unflatten_dict(random_arrays(shapes_of(looped)), sep="/")
    return variables, images, results(looped, variables, images)


@pytest.mark.parametrize("name", NETWORKS)
def test_scanned_blocks_compute_the_same(name):
    """Dropped paths included, at rates that differ from block to block."""
    scanned = network(name, drop_path=0.3, scan="on")
    variables, images, expected = spelt_out(name)
    program = str(jax.make_jaxpr(scanned.apply)(variables, images))
    assert "scan[" in program
    assert_same(results(scanned, variables, images), expected)


def test_scanned_blocks_evaluate_the_same():
    variables, images, _ = spelt_out("astroformer_pico")
    logits = [
        jit_once(network("astroformer_pico", scan=scan).apply)(variables, images)
        for scan in ("on", "off")
    ]
    assert_same(logits[:1], logits[1:])


@pytest.mark.parametrize(("remat", "scan"), [("products", "off"), ("full", "on")])
def test_blocks_computed_anew_compute_the_same(scan, remat):
    anew = network("astroformer_pico", drop_path=0.3, scan=scan, remat=remat)
    variables, images, expected = spelt_out("astroformer_pico")
    assert_same(results(anew, variables, images), expected)


def lowered(depth, scan, rate=0.3):
    """The text of a network's training pass, before XLA."""
    depths = (1, 1, depth, 1)
    model = create_model(
        "astroformer_pico", 5, 32, depths=depths, scan=scan, drop_path=rate
    )
    images = jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def train(variables, key):
        rngs = {"dropout": key}
        return model.apply(
            variables, images, train=True, rngs=rngs, mutable=["batch_stats"]
        )

    return jax.jit(train).lower(variables, jax.random.key(1)).as_text()


def test_a_scanned_program_does_not_grow_with_depth():
    small, large = (lowered(depth, "on") for depth in (6, 12))
    assert small.count("dot_general") == large.count("dot_general")
    assert small.count("call @_apply_block") == large.count("call @_apply_block")


def test_alike_blocks_are_traced_once_even_if_they_are_not_scanned():
    small, large = (lowered(depth, "off") for depth in (6, 12))
    assert small.count("dot_general") == large.count("dot_general")
    assert small.count("call @_apply_block") == large.count("call @_apply_block") - 6


def test_variables_do_not_tell_whether_blocks_are_scanned():
    shapes = [
        jax.eval_shape(
            network("astroformer_pico", scan=scan).init,
            jax.random.key(0),
            jnp.zeros((1, 32, 32, 3)),
        )
        for scan in ("on", "off")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("scan", ["on", "off"])
@pytest.mark.parametrize("remat", ["none", "full"])
def test_what_drops_nothing_draws_nothing(scan, remat):
    model = network("astroformer_pico", scan=scan, remat=remat)
    images = jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def train(variables):  # without a key to draw from
        return model.apply(variables, images, train=True, mutable=["batch_stats"])

    assert "random_bits" not in str(jax.make_jaxpr(train)(variables))
