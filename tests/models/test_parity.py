"""The networks against timm's, weights carried over, in float32."""

import re

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from hybrid_jax.models import create_model, list_models
from hybrid_jax.models.registry import MODELS, ViTRow
from hybrid_jax.runtime import jit_once
from hybrid_jax.weights import timm_models, timm_names
from tests.timm_oracle import (
    import_timm,
    pair,
    random_images,
    randomise,
    shapes_of,
    to_torch,
    variables_from_timm,
)

# Few and narrow blocks, where it is the block config of a row that is compared.
SMALL = {
    "widths": (32, 64, 96, 128),
    "depths": (1, 2, 2, 2),
    "stem_widths": (16, 32),
}
# Two stages, whose blocks each come first, where they halve, and behind that.
TWO_STAGES = {
    "stack": "C-T",
    "widths": (32, 64),
    "depths": (2, 2),
    "stem_widths": (16, 32),
    "head_hidden": 32,
    "strides": (2, 2, 2),
}
# Block configs and CBAM are compared below, in small.
AT_224_PX = ["astroformer_0", "coatnet_0", "maxvit_tiny", "vit_tiny"]
OURS = re.compile("femto|pico|nano$|nano_c")
OUR_OWN_SIZES = [
    name
    for name in MODELS
    if OURS.search(name)
    and MODELS[name].timm
    and not re.search("femto|vit", name)  # of these, names and shapes
]


def assert_logits_equal_timm(name, image_size, **overrides):
    import_timm()
    import torch

    model, network, variables = pair(name, image_size, **overrides)
    images = random_images(model.image_size)
    with torch.no_grad():
        theirs = network(to_torch(images)).numpy()
    ours = jit_once(model.apply)(variables, images)
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", AT_224_PX)
def test_logits_equal_timm(name):
    assert_logits_equal_timm(name, 224)


@pytest.mark.parametrize("name", ["astroformer_0", "coatnet_0", "maxvit_tiny"])
def test_logits_of_small_images_equal_timm(name):
    assert_logits_equal_timm(name, 64)


@pytest.mark.parametrize("name", OUR_OWN_SIZES)
def test_our_own_sizes_equal_timm_resized(name):
    assert_logits_equal_timm(name, 64)


# At 96 px all maps that are halved are even, as timm needs them, and the last is odd.
@pytest.mark.parametrize("name", ["astroformer_nano", "cbam_nano"])
def test_odd_last_maps_equal_timms(name):
    assert_logits_equal_timm(name, 96)


@pytest.mark.parametrize("name", list_models("coatnet_*_rw*"))
def test_block_configs_equal_timm(name):
    assert_logits_equal_timm(name, 96, **SMALL)


@pytest.mark.parametrize("stack", ["C-C-CT-T", "C-C-C-M", "B-B-B-T", "C-T-T-T"])
def test_other_stacks_equal_timm(stack):
    assert_logits_equal_timm("astroformer_0", 96, stack=stack, **SMALL)


@pytest.mark.parametrize("stack", ["M-M-T-T", "C-C-T-M"])
def test_the_tensorflow_config_in_other_stacks_equals_timm(stack):
    assert_logits_equal_timm("maxvit_tiny", 64, stack=stack, **SMALL)


@pytest.mark.parametrize(
    ("image_size", "patch_size"), [(32, 0), (48, 8), ((32, 48), 4), ((30, 45), 8)]
)
def test_vit_of_any_patch_and_image_equals_timm(image_size, patch_size):
    """timm fills images up only if asked to, and only the image's last patches."""
    timm = import_timm()
    import torch

    model, network, variables = pair(
        "vit_tiny", image_size, patch_size=patch_size, depth=2
    )
    name, arguments = timm_models.timm_arguments(model)
    padding = timm.create_model(
        name, dynamic_img_size=True, dynamic_img_pad=True, **arguments
    ).eval()
    padding.load_state_dict(network.state_dict())
    images = random_images(model.image_size)
    with torch.no_grad():
        theirs = padding(to_torch(images)).numpy()
    ours = jit_once(model.apply)(variables, images)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


def test_two_widths_in_a_stage_equal_timms_blocks():
    """CoAtNet-6 and -7, small: the second half of stage 3 widens without a stride.

    timm has no such stage, but its blocks do as soon as their pools are taken out.
    """
    timm = import_timm()
    import torch
    from torch import nn

    image_size, strides = 96, (2, 2, 2, 2, 1, 2)
    widths, depths = (32, 64, 64, 96, 128), (1, 1, 2, 3, 1)
    model = create_model(
        "coatnet_6",
        10,
        image_size,
        widths=(32, 64, (64, 96), 128),
        depths=(1, 1, (2, 3), 1),
        stem_widths=(16, 32),
        head_hidden=48,
        strides=(2, 2, 2, 2, 2),
    )
    flat = create_model(
        "coatnet_6",
        10,
        image_size,
        stack="C-C-C-T-T",
        widths=widths,
        depths=depths,
        stem_widths=(16, 32),
        head_hidden=48,
        strides=strides,
    )
    name, arguments = timm_models.timm_arguments(flat)
    network = timm.create_model(name, **arguments)
    second = network.stages[3].blocks[0]
    second.shortcut.pool = second.norm1.down.pool = nn.Identity()
    for stage, size in ((3, flat.map_sizes[4]), (4, flat.map_sizes[5])):
        for block in network.stages[stage].blocks:
            block.set_input_size(size)
    variables = variables_from_timm(flat, randomise(network))
    images = random_images(model.image_size)
    with torch.no_grad():
        theirs = network(to_torch(images)).numpy()
    renamed = {
        collection: {
            {f"stage4_block{n}": f"stage3_block{2 + n}" for n in (1, 2, 3)}.get(
                module, module.replace("stage5", "stage4")
            ): leaves
            for module, leaves in tree.items()
        }
        for collection, tree in variables.items()
    }
    ours = jit_once(model.apply)(renamed, images)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


def torch_step(network, images, labels):
    """Gradients by name after one backward pass in training mode."""
    import torch

    network.train()
    loss = torch.nn.functional.cross_entropy(
        network(to_torch(images)), torch.from_numpy(labels)
    )
    loss.backward()
    return {name: p.grad.numpy() for name, p in network.named_parameters()}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("astroformer_pico", TWO_STAGES),
        ("coatnet_0", TWO_STAGES),
        ("coatnet_nano_rw", TWO_STAGES),
        ("cbam_pico", TWO_STAGES | {"stack": "B-T"}),
        # timm's windows fit four stages alone.
        ("maxvit_tiny", SMALL | {"stack": "C-C-M-M", "depths": (1, 1, 1, 2)}),
        ("vit_tiny", {"depth": 2}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_gradients_and_batch_statistics_equal_pytorch(name, overrides):
    model, network, variables = pair(name, 64, **overrides)
    images, labels = random_images(model.image_size, batch=8), np.arange(8)

    def loss(params):
        logits, updated = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), updated

    grads, updated = jit_once(jax.grad(loss, has_aux=True))(variables["params"])
    theirs = torch_step(network, images, labels)
    ours = timm_names.to_timm(model, flatten_dict({"params": grads}, sep="/"))
    assert ours.keys() == theirs.keys()
    total = np.sqrt(sum((g**2).sum() for g in theirs.values()))
    # CBAM's maxima over channels fall to another channel where rounding breaks a tie.
    tolerance = 1e-2 if name == "cbam_pico" else 1e-3
    for key, gradient in theirs.items():
        # Some gradients are nought but for rounding, as of a bias before a norm.
        scale = np.linalg.norm(gradient) + 1e-3 * total
        assert np.linalg.norm(ours[key] - gradient) <= tolerance * scale, key

    before = timm_names.to_timm(model, flatten_dict(variables, sep="/"))
    after = timm_names.to_timm(model, flatten_dict(updated, sep="/"))
    counts = [len(images) * height * width for height, width in model.map_sizes]
    for key, ours in after.items():
        theirs, kept = network.state_dict()[key].numpy(), 0.9 * before[key]
        # PyTorch averages unbiased variances, which are n / (n - 1) times ours.
        factors = [1.0] if "mean" in key else [n / (n - 1) for n in counts]
        expected = [kept + factor * (ours - kept) for factor in factors]
        error = min(np.abs(theirs - e).max() for e in expected)
        assert error <= 1e-5 * max(1, np.abs(theirs).max()), key


@pytest.mark.parametrize(
    "name",
    [name for name in MODELS if MODELS[name].timm and not OURS.search(name)],
)
def test_sizes_are_timms(name):
    timm = import_timm()
    row = MODELS[name]
    if isinstance(row, ViTRow):
        import torch
        from timm.models import vision_transformer

        with torch.device("meta"):
            theirs = getattr(vision_transformer, row.timm)()
        assert (row.width, row.depth) == (theirs.embed_dim, len(theirs.blocks))
        return
    theirs = timm.models.maxxvit.model_cfgs[row.timm.rsplit("_", 1)[0]]
    stem = theirs.stem_width
    assert row.widths == theirs.embed_dim
    assert row.depths == theirs.depths
    assert row.stem_widths == (stem if isinstance(stem, tuple) else (stem, stem))
    assert row.head_hidden == (theirs.head_hidden_size or 0)
    if name.startswith(("coatnet", "maxvit")):
        assert row.stack == theirs.block_type


# What lies between the smallest and the largest CoAtNet has the names of both, and its
# sizes are compared above.
@pytest.mark.parametrize(
    "name",
    [
        "astroformer_5",
        "astroformer_0_cttt",
        "astroformer_0_cccc",
        "cbam_5",
        *[name for name in list_models("*femto*") if MODELS[name].timm],
        "coatnet_0",
        "coatnet_5",
        *list_models("coatnet_*_rw*"),
        *list_models("maxvit_*"),
        *list_models("vit_*"),
    ],
)
def test_names_and_shapes_equal_timm(name):
    timm = import_timm()
    import torch

    model = create_model(name)
    theirs, arguments = timm_models.timm_arguments(model)
    with torch.device("meta"):
        network = timm.create_model(theirs, **arguments)
    expected = {
        key: tuple(tensor.shape)
        for key, tensor in network.state_dict().items()
        if not key.endswith(timm_names.DERIVED)
    }
    shapes = shapes_of(model)
    zero = np.zeros((), np.float32)
    arrays = {path: np.broadcast_to(zero, shape) for path, shape in shapes.items()}
    ours = timm_names.to_timm(model, arrays)
    assert {key: array.shape for key, array in ours.items()} == expected
