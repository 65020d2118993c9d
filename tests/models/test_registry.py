"""Tables of blocks and models take rows from outside of the package."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from hybrid_jax.config import resolve
from hybrid_jax.models import create_model, list_models
from hybrid_jax.models.catalog import listing
from hybrid_jax.models.cost import cost
from hybrid_jax.models.layers import Shortcut
from hybrid_jax.models.registry import LETTERS, MODELS, HybridRow, Letter
from hybrid_jax.runtime import jit_once
from hybrid_jax.weights.timm_models import timm_arguments
from tests.timm_oracle import random_variables, shapes_of


class Pointwise(nn.Module):
    """A residual product, scaled by an option of the row."""

    features: int
    stride: int = 1
    drop_path: float | jax.Array = 0.0
    block_config: object = None
    dtype: np.dtype = np.float32
    window: tuple[int, int] | None = None
    scale: float = 1.0

    @nn.compact
    def __call__(self, x, train):
        assert self.window is None or self.window == (4, 4)
        x = Shortcut(self.features, self.stride, name="shortcut")(x)
        return x + self.scale * nn.Dense(self.features, name="dense")(x)


def test_a_letter_and_a_model_from_outside_are_built_and_applied(monkeypatch):
    address = f"{__name__}:Pointwise"
    for letter, row in {
        "X": Letter(address, "a product", options={"scale": 0.0}),
        "W": Letter(Pointwise, "a product", attention="window"),
    }.items():
        monkeypatch.setitem(LETTERS, letter, row)
    widths, depths = (8, 16, 32, 32), (1, 1, 2, 1)
    row = HybridRow(("C", "X", "XT", "W"), widths, depths, (8, 8), 16)
    monkeypatch.setitem(MODELS, "mine", row)

    assert list_models("mi*") == ["mine"]
    assert "C-X-XT-W" in listing(["mine"])
    config = resolve.default()
    config.model.name, config.model.stack = "mine", "C-X-XT-W"
    resolve.resolve(config)

    model = create_model("mine", 3, 32)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    variables = random_variables(model, images)
    logits = jit_once(model.apply)(variables, images)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()
    assert cost(model).macs > 0
    # The option reaches the block: its product counts for nothing.
    params = variables["params"]
    other = params | {"stage2_block1": jax.tree.map(np.copy, params["stage2_block1"])}
    other["stage2_block1"]["dense"]["kernel"] += 1
    changed = jit_once(model.apply)(variables | {"params": other}, images)
    np.testing.assert_array_equal(changed, logits)

    with pytest.raises(ValueError, match="timm has no block X"):
        timm_arguments(create_model("mine", 3, 32, stack="C-X-C-T"))
    with pytest.raises(ValueError, match="stage 1 is 8 channels wide, but W needs"):
        create_model("mine", 3, 32, stack="W-X-X-X")


def test_heads_are_made_from_the_width_that_attention_sees():
    """timm's own CoAtNets widen a map after attention, and others before it."""
    narrow = {"widths": (16, 16, 32, 64), "depths": (1, 1, 1, 1)}
    assert create_model("coatnet_0", 5, 32, **narrow)
    said = "the map before T in stage 3 is 16 channels wide, but T needs a multiple of"
    with pytest.raises(ValueError, match=said):
        create_model("coatnet_nano_rw", 5, 32, **narrow)
    windowed = create_model("coatnet_nano_rw", 5, 32, stack="C-C-M-C", **narrow)
    assert shapes_of(windowed)
