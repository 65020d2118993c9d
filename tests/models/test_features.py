"""Features against timm's, weights carried over, in float32."""

from functools import partial

import jax
import numpy as np
import pytest

from hybrid_jax.models import create_model
from hybrid_jax.models.features import extract_features
from hybrid_jax.runtime import jit_once
from hybrid_jax.weights import timm_models
from tests.models.test_parity import SMALL
from tests.timm_oracle import (
    import_timm,
    pair,
    random_images,
    random_variables,
    to_torch,
)

equal = partial(np.testing.assert_allclose, atol=1e-4, rtol=0)


def extract(model, variables, images, **options):
    return jit_once(partial(extract_features, model, **options))(variables, images)


def timms_maps(model, network, images):
    """From timm's own extractor, except a ViT's, where that gives three blocks only."""
    name, arguments = timm_models.timm_arguments(model)
    if name.startswith("vit"):
        return network.forward_intermediates(images, intermediates_only=True)
    extractor = import_timm().create_model(name, features_only=True, **arguments).eval()
    weights = {
        key.replace("stages.", "stages_"): value
        for key, value in network.state_dict().items()
        if not key.startswith(("head.", "norm."))
    }
    extractor.load_state_dict(weights)
    return extractor(images)


def keep_attention(network):
    """A list to which timm's network adds its weights, block by block, as it runs."""
    kept = []
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # which has no weights to show
            module.attn_drop.register_forward_hook(lambda *a: kept.append(a[-1]))
    return kept


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("astroformer_0", SMALL),
        ("coatnet_0_rw", SMALL),
        ("maxvit_tiny", SMALL),
        ("vit_tiny", {"depth": 2}),
    ],
)
def test_features_equal_timm(name, overrides):
    import_timm()
    import torch

    model, network, variables = pair(name, 64, **overrides)
    images = random_images(model.image_size)
    kept = keep_attention(network)
    with torch.no_grad():
        last = network.forward_features(to_torch(images))
        attention = [*kept]
        pooled = network.forward_head(last, pre_logits=True)
        maps = timms_maps(model, network, to_torch(images))
    ours = extract(model, variables, images, attention=True)
    assert len(ours.attention) == len(attention) > 0
    assert len(ours.maps) == len(maps) > 1
    equal(ours.pooled, pooled)
    for our, their in zip(ours.maps, maps, strict=True):
        equal(our, their.permute(0, 2, 3, 1))
    for our, their in zip(ours.attention.values(), attention, strict=True):
        equal(our, their)


def feature_shapes(name, image_size, attention=True, **overrides):
    model = create_model(name, 3, image_size, **overrides)
    images = random_images(model.image_size)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    features = partial(extract_features, model, attention=attention)
    return jax.tree.map(np.shape, jax.eval_shape(features, variables, images))


def test_shapes_and_names():
    narrow = {"widths": (32, 32, 64, 64), "depths": (1, 1, 1, 2)}
    pooled, maps, attention = feature_shapes("maxvit_tiny", (64, 96), **narrow)
    assert pooled == (2, 512)
    assert maps[:2] == [(2, 64, 96, 64), (2, 32, 48, 32)]
    assert maps[4] == (2, 4, 6, 64)
    assert len(attention) == 2 * 5
    # Windows of 4x6, of which a map of 8x12 has four an image.
    assert attention["stage3_block1/grid"] == (2 * 4, 2, 24, 24)
    assert attention["stage4_block2/block"] == (2, 2, 24, 24)

    pooled, maps, attention = feature_shapes("vit_tiny", (32, 48), depth=3)
    assert pooled == (2, 192)
    assert maps == [(2, 8, 12, 192)] * 3
    assert attention == {f"block{n}": (2, 3, 97, 97) for n in (1, 2, 3)}

    assert feature_shapes("sasa_nano", 32).attention == {}


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((32, 32, 3), r"are \[32, 32, 3\], and \[B, 32, 32, .*, images\[None\]"),
        (
            (2, 16, 32, 3),
            r"are \[2, 16, 32, 3\], and \[B, 32, 32, channels\] is needed$",
        ),
        ((2, 32, 32, 3), "have no 'params'"),
    ],
)
def test_images_of_another_shape_are_named(shape, said):
    model = create_model("astroformer_pico", 3, 32)
    with pytest.raises(ValueError, match=said):
        extract_features(model, {}, np.zeros(shape, np.float32))


@pytest.mark.parametrize(("name", "channels"), [("pico", 1), ("nano", 3)])
def test_variables_of_other_channels_or_another_model_are_named(name, channels):
    model = create_model("astroformer_pico", 3, 32)
    images = np.zeros((2, 32, 32, channels), np.float32)
    other = create_model(f"astroformer_{name}", 3, 32)
    color = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(other.init, jax.random.key(0), color)
    with pytest.raises(ValueError, match=f"do not fit images of {channels} channel"):
        jax.eval_shape(partial(extract_features, model), shapes, images)


def test_attention_is_left_out_of_a_program_unless_it_is_asked_for():
    asked = feature_shapes("astroformer_pico", 32)
    assert asked.attention == {"stage4_block1": (2, 4, 16, 16)}
    assert feature_shapes("astroformer_pico", 32, attention=False) == asked._replace(
        attention={}
    )


@pytest.mark.parametrize("form", ["pre", "post"])
def test_features_are_those_of_evaluation(form):
    """Without dropout, so that the classifier makes the logits of them; and rows of
    attention sum to 1, to which the post-normalized form adds the bias it has there.
    """
    model = create_model("astroformer_pico", 3, 32, attention=form, dropout=0.5)
    images = random_images(model.image_size)
    variables = random_variables(model, images)
    features = extract(model, variables, images, attention=True)
    assert features.attention.keys() == {"stage4_block1"}

    classifier = variables["params"]["head"]["classifier"]
    logits = features.pooled @ classifier["kernel"] + classifier["bias"]
    equal(logits, jit_once(model.apply)(variables, images))

    table = variables["params"]["stage4_block1"]["attention"]["bias_table"]
    # The first of 4x4 positions sees offsets of -3 to 0 on both axes.
    bias = table[:4, :4].sum((0, 1)) if form == "post" else np.zeros(4)
    sums = features.attention["stage4_block1"].sum(-1)
    equal(sums[:, :, 0], np.broadcast_to(1 + bias, (2, 4)))
