"""The figures of the documents show what the networks have."""

import functools
import sys

import jax
import jax.numpy as jnp
import pytest

from hybrid_jax.models.registry import LETTERS
from tests.docs.pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import figures


def test_figures_are_those_that_are_drawn():
    """Otherwise run `python docs/figures.py`."""
    for name, figure in figures.figures().items():
        path = ROOT / "docs" / "images" / f"{name}.svg"
        assert path.read_text(encoding="utf-8") == figure


def test_every_letter_has_a_figure():
    assert {*figures.BLOCKS} == {*LETTERS}


@pytest.mark.parametrize("letter", LETTERS)
def test_blocks_have_the_modules_that_their_figures_show(letter):
    block = LETTERS[letter].load_block()(features=64, stride=2)
    init = functools.partial(block.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 14, 14, 32)))
    boxes, _ = figures.BLOCKS[letter]
    assert {*shapes["params"]} == {box.module for box in boxes if box.module}
