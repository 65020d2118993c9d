"""Names and layouts: timm to here and back, for every kind of row."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from hybrid_jax.models import create_model, interop
from hybrid_jax.runtime import jit_once
from tests.timm_oracle import import_timm, pair, random_images, shapes_of, to_torch

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
    "maxvit_tiny": SMALL,
    "vit_tiny": {"depth": 2},
}


@pytest.mark.parametrize("name", ROWS)
def test_timm_to_here_to_timm_is_identical(name):
    import_timm()
    model, network, variables = pair(name, 64, **ROWS[name])
    state = interop.to_timm(model, flatten_dict(variables, sep="/"))
    expected = network.state_dict()
    kept = {key for key in expected if not key.endswith(interop.DERIVED)}
    assert state.keys() == kept
    for key, array in state.items():
        np.testing.assert_array_equal(array, expected[key].numpy(), err_msg=key)


@pytest.mark.parametrize("name", ROWS)
def test_here_to_timm_gives_the_same_logits(name):
    """What was initialised here is loaded there, strictly."""
    timm = import_timm()
    import torch

    strides = {} if name.startswith("vit") else {"strides": interop.TIMM_STRIDES}
    model = create_model(name, 5, 64, **strides, **ROWS[name])
    images = random_images(model.image_size, batch=1)
    variables = jit_once(model.init)(jax.random.key(0), images)
    state = interop.to_timm(model, flatten_dict(variables, sep="/"))
    theirs, arguments = interop.timm_arguments(model)
    network = timm.create_model(theirs, **arguments).eval()
    network.load_state_dict(
        {key: torch.from_numpy(array.copy()) for key, array in state.items()}
    )
    with torch.no_grad():
        expected = network(to_torch(images)).numpy()
    ours = jit_once(model.apply)(variables, images)
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=0)


def test_what_timm_has_not_is_said():
    for name, said in [("sasa_pico", "no local"), ("coatnet_6", "no two widths")]:
        with pytest.raises(ValueError, match=said):
            interop.timm_arguments(create_model(name))
    for stack in ("B-C-C-T", "B-B-B-M"):
        model = create_model("astroformer_0", stack=stack)
        with pytest.raises(ValueError, match="one gate"):
            interop.timm_arguments(model)
    with pytest.raises(ValueError, match="before the softmax alone"):
        interop.timm_arguments(create_model("coatnet_0", attention="post"))


@pytest.mark.parametrize("name", ["astroformer_pico", "vit_tiny", "maxvit_tiny"])
def test_a_state_dict_tells_what_it_is_of(name):
    import_timm()
    model, network, _ = pair(name, 96)
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    spec = interop.spec_from_timm(name, state)
    assert spec.pop("channels") == 3
    same = create_model(**spec)
    assert shapes_of(same) == shapes_of(model)
    assert same.image_size == (96, 96)
