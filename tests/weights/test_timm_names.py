"""Names and layouts: timm to here and back, for every kind of row."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from hybrid_jax.models import create_model
from hybrid_jax.runtime import jit_once
from hybrid_jax.weights import timm_models, timm_names
from tests.timm_oracle import (
    import_timm,
    pair,
    random_arrays,
    random_images,
    shapes_of,
    to_torch,
)

SMALL = {
    "widths": (32, 64, 96, 128),
    "depths": (1, 1, 2, 1),
    "stem_widths": (16, 32),
}
ROWS = {
    "astroformer_pico": {},
    "cbam_pico": {},
    "coatnet_3_rw": SMALL,
    "coatnet_bn_0_rw": SMALL,
    "coatnet_rmlp_1_rw": SMALL,
    "maxvit_tiny": SMALL | {"stack": "C-C-M-M"},
    "vit_tiny": {"depth": 2},
}
# timm has no torus, and computes the same with a table that repeats itself.
TORUS = {"astroformer_pico_cctt": {"relative_bias": "torus"}}


@pytest.mark.parametrize("name", ROWS)
def test_timm_to_here_to_timm_is_identical(name):
    import_timm()
    model, network, variables = pair(name, 64, **ROWS[name])
    state = timm_names.to_timm(model, flatten_dict(variables, sep="/"))
    expected = network.state_dict()
    kept = {key for key in expected if not key.endswith(timm_names.DERIVED)}
    assert state.keys() == kept
    for key, array in state.items():
        np.testing.assert_array_equal(array, expected[key].numpy(), err_msg=key)


@pytest.mark.parametrize("name", [*ROWS, *TORUS])
def test_here_to_timm_gives_the_same_logits(name):
    """What has this project's names is loaded there, strictly."""
    timm = import_timm()
    import torch

    strides = {} if name.startswith("vit") else {"strides": timm_models.TIMM_STRIDES}
    model = create_model(name, 5, 64, **strides, **(ROWS | TORUS)[name])
    images = random_images(model.image_size, batch=1)
    arrays = random_arrays(shapes_of(model))
    variables = unflatten_dict(arrays, sep="/")
    state = timm_names.to_timm(model, arrays)
    theirs, arguments = timm_models.timm_arguments(model)
    network = timm.create_model(theirs, **arguments).eval()
    network.load_state_dict(
        {key: torch.from_numpy(array.copy()) for key, array in state.items()}
    )
    with torch.no_grad():
        expected = network(to_torch(images)).numpy()
    ours = jit_once(model.apply)(variables, images)
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=0)


def test_what_timm_has_not_is_said():
    for name, said in [("sasa_pico", "no block S"), ("coatnet_6", "two widths")]:
        with pytest.raises(ValueError, match=said):
            timm_models.timm_arguments(create_model(name))
    for stack in ("B-C-C-T", "B-B-B-M"):
        model = create_model("astroformer_0", stack=stack)
        with pytest.raises(ValueError, match="one gate"):
            timm_models.timm_arguments(model)
    with pytest.raises(ValueError, match="only before the softmax"):
        timm_models.timm_arguments(create_model("coatnet_0", attention="post"))


@pytest.mark.parametrize("name", ["astroformer_pico", "vit_tiny", "maxvit_tiny"])
def test_a_state_dict_tells_what_it_is_of(name):
    strides = {} if name.startswith("vit") else {"strides": timm_models.TIMM_STRIDES}
    model = create_model(name, 10, 96, **strides)
    shapes = meta_shapes(model)
    state = {key: np.broadcast_to(np.float32(0), x) for key, x in shapes.items()}
    spec = timm_models.spec_from_timm(name, state)
    assert spec.pop("channels") == 3
    same = create_model(**spec)
    assert shapes_of(same) == shapes_of(model)
    assert same.image_size == (96, 96)


def meta_shapes(model):
    """Names and shapes of the network that timm is asked for."""
    timm = import_timm()
    import torch

    name, arguments = timm_models.timm_arguments(model)
    with torch.device("meta"):
        network = timm.create_model(name, **arguments)
    return {
        key: tuple(tensor.shape)
        for key, tensor in network.state_dict().items()
        if not key.endswith(timm_names.DERIVED)
    }


@pytest.mark.parametrize("size", [32, 64, 100, 200, 224, 240, (96, 64), (128, 224)])
@pytest.mark.parametrize("name", ["astroformer_pico", "coatnet_nano_rw", "maxvit_tiny"])
def test_timm_is_asked_for_a_network_that_the_weights_fit(name, size):
    """Whatever the strides; only sizes that timm cannot have at all are refused."""
    model = create_model(name, 5, size, depths=(1, 1, 1, 1))
    arrays = {
        path: np.broadcast_to(np.float32(0), shape)
        for path, shape in shapes_of(model).items()
    }
    state = timm_names.to_timm(model, arrays)
    assert {key: x.shape for key, x in state.items()} == meta_shapes(model)


def test_maps_that_timm_cannot_have_are_said():
    strides = (2, 1, 1, 2, 1)  # the last two maps are 4x4
    model = create_model("coatnet_0", 10, 16, strides=strides)
    with pytest.raises(ValueError, match=r"timm has no maps of .*4x4, 4x4 in one"):
        timm_models.timm_arguments(model)
    with pytest.raises(ValueError, match="no batch norms in MaxViT"):
        timm_models.timm_arguments(create_model("coatnet_bn_0_rw", stack="C-C-C-M"))


def test_timm_is_asked_for_no_hidden_layer_where_there_is_none():
    """Asked for None, timm makes one."""
    model = create_model("astroformer_pico", 5, 64, head_hidden=0)
    theirs = meta_shapes(model)
    assert "head.fc.weight" in theirs
    assert not [key for key in theirs if "pre_logits" in key]


def test_a_halved_map_of_odd_sides_is_a_reason_for_other_logits():
    strides = timm_models.TIMM_STRIDES
    for size, odd in (100, "25x25"), ((64, 72), "8x9"), (63, ""), (64, ""):
        model = create_model("coatnet_0", 5, size, strides=strides)
        said = [f"timm halves a map of {odd} in another way, or not at all"]
        assert timm_models.other_logits(model) == (said if odd else [])
    # The last map alone has a table, and timm has it at 128 px without an odd map.
    model = create_model("astroformer_pico", 5, 100, strides=strides)
    assert timm_models.timm_arguments(model)[1]["img_size"] == (128, 128)
    # Here the last two have tables, of 7x7 and 4x4.
    model = create_model("coatnet_0", 5, 28)
    assert timm_models.timm_arguments(model)[1]["img_size"] == (112, 112)
    assert "timm halves a map of 7x7" in " ".join(timm_models.other_logits(model))


@pytest.mark.parametrize(
    ("name", "padding", "theirs"),
    [
        ("coatnet_0", "same", "symmetric"),
        ("coatnet_0", "symmetric", ""),
        ("maxvit_tiny", "symmetric", "same"),
        ("maxvit_tiny", "same", ""),
    ],
)
def test_other_padding_is_a_reason_for_other_logits(name, padding, theirs):
    strides = timm_models.TIMM_STRIDES
    model = create_model(name, 5, 64, strides=strides, padding=padding)
    said = [f"timm's padding is {theirs}, but this network's is {padding}"]
    assert timm_models.timm_arguments(model)
    assert timm_models.other_logits(model) == (said if theirs else [])


def test_a_table_that_is_no_squares_is_not_taken_for_one():
    import_timm()
    model, network, _ = pair("coatnet_0", (128, 64), **SMALL)
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    key = "params/stage4_block1/attention/bias_table"
    own, _ = timm_names.from_timm(model, state, shapes_of(model))
    assert own[key].shape == (7, 3, 4)
    square = create_model(
        "coatnet_0", 10, 64, strides=timm_models.TIMM_STRIDES, **SMALL
    )
    others, _ = timm_names.from_timm(square, state, shapes_of(square))
    assert others[key].shape == (21, 4)  # as it was, to be refused
