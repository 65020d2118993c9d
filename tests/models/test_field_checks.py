"""Fields that a caller of `create_model` overrides."""

import numpy as np
import pytest

from hybrid_jax.models import create_model
from hybrid_jax.models.field_checks import ONE_OF
from hybrid_jax.models.scan_blocks import REMAT, SCAN

STAGES = "give a whole number from 1 to 1,000 for each stage"

WIDTHS = "give a whole number from 1 to 32,768 for each stage"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("depths", "1,1,2,1", STAGES),
        ("depths", 3, STAGES),
        ("depths", None, STAGES),
        ("depths", ("1", "1", "2", "1"), STAGES),
        ("depths", (1.5, 1, 2, 1), STAGES),
        ("depths", (-1, 1, 2, 1), STAGES),
        ("depths", (True, 1, 2, 1), STAGES),
        ("depths", {1: 1, 2: 2, 3: 3, 4: 4}, STAGES),
        ("depths", (1, 1), "depths (1, 1) and strides (1, 1, 2, 2, 2) do not fit 4"),
        ("depths", (1, 1, 10**6, 1), STAGES),
        ("widths", (16, 32, (64, 0), 128), WIDTHS),
        ("widths", (16, 32, 64, 2**40), WIDTHS),
        ("strides", (1, 1, 2, 2, "2"), WIDTHS),
        ("stem_widths", 16, WIDTHS),
        ("stem_widths", (), "stem_widths=(): give one or two"),
        ("stack", 3, "stack=3: give letters"),
        ("stack", b"CCCT", "give letters"),
        ("head_hidden", -1, "head_hidden=-1: give a whole number from 0"),
        ("drop_path", 1.0, "give a rate from 0 to below 1"),
        ("dtype", "int8", "dtype='int8': give one of floats"),
        ("scan", "maybe", "scan='maybe' is not one of auto, on, off"),
        ("remat", "all", "remat='all' is not one of none, products, full"),
        ("kernels", "cuda", "kernels='cuda' is not one of xla, pallas"),
    ],
)
def test_an_impossible_field_is_named(name, value, said):
    with pytest.raises(ValueError) as error:
        create_model("astroformer_pico", 10, 32, **{name: value})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"), [("depth", 0), ("width", 100), ("patch_size", 2.5)]
)
def test_an_impossible_field_of_a_vit_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: give a"):
        create_model("vit_tiny", 10, 32, **{name: value})


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("astroformer_pico", {"patch_size": 4}, "patch_size is no field of HybridNet"),
        ("astroformer_pico", {"stem_width": 4}, "did you mean 'stem_widths'?"),
        ("vit_tiny", {"strides": (1, 1)}, "strides is no field of ViT: give some of"),
    ],
)
def test_a_field_that_a_network_does_not_have_is_named(name, fields, said):
    with pytest.raises(ValueError) as error:
        create_model(name, 10, 32, **fields)
    assert said in str(error.value)
    create_model(name, 10, 32, parent=None)  # as in another Flax module


def test_what_is_allowed_is_what_is_there():
    assert ONE_OF["scan"] == (*SCAN,)
    assert ONE_OF["remat"] == (*REMAT,)


def test_lists_and_arrays_are_the_same_as_tuples():
    model = create_model("astroformer_pico", 10, 32, depths=(1, 1, 3, 1))
    for depths in ([1, 1, 3, 1], np.array([1, 1, 3, 1])):
        other = create_model(
            "astroformer_pico", np.int64(10), 32, depths=depths, stack=[*"CCCT"]
        )
        assert other == model
        assert hash(other) == hash(model)
