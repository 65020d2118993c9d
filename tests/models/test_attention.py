"""Relative attention against the double loop that its equations are."""

import jax
import numpy as np
import pytest

from hybrid_jax.models.attention import RelativeAttention, relative_position_index
from hybrid_jax.models.block_config import BlockConfig
from tests.timm_oracle import random_variables

HEADS, DIM = 2, 32


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def double_loop(x, params, form):
    """One image `[H, W, C]` through the equations, a position at a time."""
    height, width, _ = x.shape
    positions = [(y, x) for y in range(height) for x in range(width)]
    tokens = x.reshape(len(positions), -1)
    qkv = tokens @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    qkv = qkv.reshape(len(positions), HEADS, 3, DIM)
    table = params["bias_table"]
    out = np.zeros((len(positions), HEADS, DIM))
    for h in range(HEADS):
        for i, (yi, xi) in enumerate(positions):
            scores = np.zeros(len(positions))
            w = np.zeros(len(positions))
            for j, (yj, xj) in enumerate(positions):
                scores[j] = qkv[i, h, 0] @ qkv[j, h, 1] / np.sqrt(DIM)
                w[j] = table[yi - yj + height - 1, xi - xj + width - 1, h]
            weights = softmax(scores + w) if form == "pre" else softmax(scores) + w
            for j in range(len(positions)):
                out[i, h] += weights[j] * qkv[j, h, 2]
    y = out.reshape(len(positions), -1) @ params["project"]["kernel"]
    return (y + params["project"]["bias"]).reshape(height, width, -1)


@pytest.mark.parametrize("size", [(3, 4), (6, 2)])
@pytest.mark.parametrize("form", ["pre", "post"])
def test_equals_the_double_loop(form, size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 24)).astype(np.float32)
    module = RelativeAttention(HEADS * DIM, BlockConfig(attention=form))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    params = jax.tree.map(
        lambda s: rng.normal(scale=0.3, size=s.shape).astype(np.float32), shapes
    )
    ours = module.apply(params, x)
    theirs = np.stack([double_loop(image, params["params"], form) for image in x])
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_two_forms_differ():
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 32)).astype(np.float32)
    variables = random_variables(RelativeAttention(32), x)
    pre = RelativeAttention(32, BlockConfig(attention="pre")).apply(variables, x)
    post = RelativeAttention(32, BlockConfig(attention="post")).apply(variables, x)
    assert np.abs(pre - post).max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7)])
def test_index_numbers_offsets(size):
    height, width = size
    index = relative_position_index(height, width)
    assert index.shape == (height * width, height * width)
    assert len(np.unique(index)) == (2 * height - 1) * (2 * width - 1)
    offset_of = {}
    for i in range(height * width):
        for j in range(height * width):
            offset = (i // width - j // width, i % width - j % width)
            assert offset_of.setdefault(index[i, j], offset) == offset
    assert max(offset_of) == len(offset_of) - 1
