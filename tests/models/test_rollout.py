"""Attention rollout against the products and sums that it stands for, one by one."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from hybrid_jax.models import create_model
from hybrid_jax.models.attention import RelativeAttention
from hybrid_jax.models.block_config import PAPER, VIT
from hybrid_jax.models.features import extract_features
from hybrid_jax.models.rollout import Layer, attention_rollout, over_map
from hybrid_jax.runtime import jit_once
from tests.timm_oracle import random_variables

close = partial(np.testing.assert_allclose, atol=1e-5, rtol=0)


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def trained(name, image_size, **overrides):
    """A network whose every variable is random, and images."""
    model = create_model(name, 3, image_size, **overrides)
    images = numbers(2, *model.image_size, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    leaves, tree = jax.tree.flatten(variables)
    drawn = [np.abs(0.2 * numbers(*leaf.shape)) for leaf in leaves]
    return model, jax.tree.unflatten(tree, drawn), images


@pytest.mark.parametrize("form", ["pre", "post", "ViT"])
def test_weights_are_those_that_the_module_attends_with(form):
    config = VIT if form == "ViT" else dataclasses.replace(PAPER, attention=form)
    module = RelativeAttention(config.head_dim * 2, config)
    x = numbers(2, 3, 4, config.head_dim * 2)
    variables = random_variables(module, x)
    params = jax.tree.map(np.asarray, variables["params"])
    expected = jit_once(module.apply)(variables, x)
    sow = partial(module.apply, mutable=["intermediates"])
    _, sown = jit_once(sow)(variables, x)
    (weights,) = map(np.asarray, sown["intermediates"]["softmax"])
    assert weights.min() > 0
    close(weights.sum(-1), np.ones(weights.shape[:-1]))
    if form == "post":
        y, two = np.divmod(np.arange(12), 4)
        offsets = y[:, None] - y + 2, two[:, None] - two + 3
        weights = weights + params["bias_table"][offsets].transpose(2, 0, 1)
    kernel, bias = params["qkv"]["kernel"], params["qkv"]["bias"]
    inside = x.reshape(2, 12, -1) @ kernel.reshape(x.shape[-1], -1) + bias
    values = inside.reshape(2, 12, 2, -1)[..., 2 * config.head_dim :]
    mixed = np.einsum("bnij,bjnd->bind", weights, values).reshape(2, 12, -1)
    kernel, bias = params["project"]["kernel"], params["project"]["bias"]
    output = mixed @ kernel.reshape(kernel.shape[-2:]) + bias
    close(output.reshape(expected.shape), expected)


def test_a_vit_looks_where_its_class_token_does():
    model, variables, images = trained("vit_tiny", (32, 40), depth=2, patch_size=12)
    extract = jit_once(partial(extract_features, model, attention=True))
    weights = extract(variables, images).attention
    rolled = np.eye(1 + 3 * 4)
    for name in ("block1", "block2"):
        rolled = (np.eye(13) + np.asarray(weights[name]).mean(1)) / 2 @ rolled
    expected = np.zeros((2, 32, 40))
    for row, column in np.ndindex(32, 40):  # the last patches reach beyond the image
        patch = 1 + row // 12 * 4 + column // 12
        expected[:, row, column] = rolled[:, 0, patch]
    expected /= expected.sum((1, 2), keepdims=True)
    logits, found = jit_once(partial(attention_rollout, model))(variables, images)
    assert logits.shape == (2, 3)
    close(1e3 * found, 1e3 * expected)


@pytest.mark.parametrize("form", ["pre", "post"])
def test_a_hybrid_looks_with_the_mean_of_its_last_map(form):
    narrow = {"widths": (32, 32, 32, 32), "depths": (1, 1, 1, 2), "attention": form}
    model, variables, images = trained(
        "coatnet_0", 64, strides=(2, 2, 2, 2, 2), **narrow
    )
    extract = jit_once(partial(extract_features, model, attention=True))
    weights = extract(variables, images).attention
    rolled = np.eye(4)
    for name in ("stage4_block1", "stage4_block2"):  # and none of the finer stage 3
        softmax = np.asarray(weights[name])
        if form == "post":
            table = variables["params"][name]["attention"]["bias_table"]
            y, x = np.divmod(np.arange(4), 2)
            offsets = y[:, None] - y + 1, x[:, None] - x + 1
            softmax = softmax - table[offsets].transpose(2, 0, 1)
        rolled = (np.eye(4) + softmax.mean(1)) / 2 @ rolled
    expected = rolled.mean(1).reshape(2, 2, 2).repeat(32, 1).repeat(32, 2)
    logits, found = jit_once(partial(attention_rollout, model))(variables, images)
    assert logits.shape == (2, 3)
    close(1e3 * found, 1e3 * expected / expected.sum((1, 2), keepdims=True))


@pytest.mark.parametrize("partition", ["block", "grid"])
def test_windows_are_put_together_to_a_map(partition):
    size, (high, wide) = (5, 6), (2, 3)  # three by two windows, a row of padding

    def place(y, x):
        """Return the window of a position, and its number there."""
        if partition == "block":
            return y // high * 2 + x // wide, y % high * wide + x % wide
        return y % 3 * 2 + x % 2, y // 3 * wide + x // 2

    weights = np.abs(numbers(2 * 6, 4, 6, 6))
    found = over_map(Layer(weights, size, partition, (high, wide)), batch=2)
    mean = weights.reshape(2, 6, 4, 6, 6).mean(2)
    expected = np.zeros((2, 30, 30))
    for query, key in np.ndindex(30, 30):
        (window, row), (other, column) = (place(*divmod(i, 6)) for i in (query, key))
        if window == other:
            expected[:, query, key] = mean[:, window, row, column]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "looks"),
    [("maxvit_tiny", True), ("astroformer_pico", True), ("wrn_16_4", False)],
)
def test_networks_without_attention_look_nowhere(name, looks):
    narrow = {"widths": (32,) * 4, "depths": (1,) * 4} if name == "maxvit_tiny" else {}
    model, variables, images = trained(name, 64, **narrow)
    _, found = jax.eval_shape(partial(attention_rollout, model), variables, images)
    assert (found is not None) == looks
    assert not looks or found.shape == (2, 64, 64)
