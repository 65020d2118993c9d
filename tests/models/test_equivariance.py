"""Logits under shifts: exact on a torus with adaptive downsampling, and why."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.models import block_config, create_model, downsample
from hybrid_jax.models.block_config import BlockConfig
from tests.timm_oracle import import_timm, random_variables

EXACT = {"padding": "circular", "relative_bias": "torus", "downsample": "aps"}
SMALL = {"widths": (32, 32, 32, 32), "depths": (1, 1, 1, 1), "stem_widths": (8, 8)}
SIZE, STRIDES = (16, 24), (2, 2, 2, 1, 1)


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def doubles(model, image):
    """Random variables in float64."""
    return jax.tree.map(np.float64, random_variables(model, image[None]))


@functools.partial(jax.jit, static_argnums=0)
def apply(model, variables, images):
    """Compile once for all variables of a model."""
    return model.apply(variables, images)


def worst_change(model, variables, image, shifts):
    """The largest relative change of logits under cyclic shifts of an image."""
    shifted = np.stack([np.roll(image, shift, (0, 1)) for shift in shifts])
    logits = np.asarray(apply(model, variables, shifted))
    change = np.linalg.norm(logits - logits[0], axis=-1)
    return change.max() / np.linalg.norm(logits[0])


# Between them, every block and both forms of attention, and a last stage that halves.
@pytest.mark.parametrize(
    ("stack", "attention", "size", "strides"),
    [
        ("C-C-C-T", "pre", SIZE, STRIDES),
        ("C-C-C-T", "pre", (32, 16), (2, 2, 2, 1, 2)),
        ("C-C-T-T", "post", SIZE, STRIDES),
        ("B-B-B-B", "pre", SIZE, STRIDES),
        ("C-S-W-C", "pre", (32, 16), (2, 2, 2, 1, 2)),
    ],
)
def test_every_cyclic_shift_leaves_the_logits_exactly(stack, attention, size, strides):
    with jax.enable_x64(True):
        fields = SMALL | EXACT | {"stack": stack, "attention": attention}
        fields |= {"strides": strides, "dtype": jnp.float64}
        model = create_model("astroformer_pico", 5, size, **fields)
        image = random_maps(*size, 3)
        variables = doubles(model, image)
        shifts = list(np.ndindex(*size))
        assert worst_change(model, variables, image, shifts) <= 1e-10


@pytest.mark.parametrize("missing", EXACT)
def test_without_one_of_the_three_the_logits_change(missing):
    with jax.enable_x64(True):
        fields = {name: value for name, value in EXACT.items() if name != missing}
        fields |= SMALL | {"strides": (1, 1, 2, 2, 1), "dtype": jnp.float64}
        model = create_model("astroformer_pico", 5, (16, 24), **fields)
        image = random_maps(16, 24, 3)
        variables = doubles(model, image)
        shifts = [(0, 0), (1, 0), (7, 5)]
        assert worst_change(model, variables, image, shifts) > 1e-6


@pytest.mark.parametrize("name", ["coatnet_0_rw", "coatnet_rmlp_1_rw"])
def test_blocks_that_halve_by_a_pool_are_exact_too(name):
    with jax.enable_x64(True):
        fields = SMALL | EXACT | {"strides": (1, 2, 2, 1, 1), "dtype": jnp.float64}
        model = create_model(name, 5, (16, 24), **fields)
        image = random_maps(16, 24, 3)
        variables = doubles(model, image)
        shifts = [(0, 0), (1, 0), (0, 1), (3, 2), (7, 23)]
        assert worst_change(model, variables, image, shifts) <= 1e-10


@pytest.mark.parametrize("stack", ["C-C-T-T", "W-W-S-C"])
def test_the_phase_of_a_stride_makes_the_strided_network(monkeypatch, stack):
    """With phase 0 everywhere the adaptive network is the strided one."""
    monkeypatch.setattr(downsample, "choose_phase", lambda x: jnp.zeros(len(x), int))
    fields = SMALL | {"stack": stack, "strides": (2, 2, 2, 2, 1), "padding": "circular"}
    images = jnp.asarray(random_maps(2, 32, 32, 3), jnp.float32)
    strided = create_model("astroformer_pico", 5, 32, **fields)
    adaptive = create_model("astroformer_pico", 5, 32, **fields, downsample="aps")
    variables = random_variables(strided, images)
    ours, theirs = (
        jax.jit(model.apply)(variables, images) for model in (adaptive, strided)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_phase_is_that_of_the_largest_norm():
    maps = random_maps(64, 6, 4, 3).astype(np.float32)
    norms = [
        [
            np.linalg.norm(image[row::2, column::2])
            for row in (0, 1)
            for column in (0, 1)
        ]
        for image in maps
    ]
    phases = np.asarray(downsample.choose_phase(jnp.asarray(maps)))
    np.testing.assert_array_equal(phases, np.argmax(norms, axis=1))
    assert {*phases} == {0, 1, 2, 3}
    kept = np.asarray(downsample.take_phase(jnp.asarray(maps), jnp.asarray(phases)))
    for image, phase, map_ in zip(maps, phases, kept, strict=True):
        np.testing.assert_array_equal(map_, image[phase // 2 :: 2, phase % 2 :: 2])


@pytest.mark.parametrize(
    ("padding", "theirs"), [("same", "reflect"), ("circular",) * 2]
)
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (2, 2)])
def test_the_low_pass_filter_is_timms(size, padding, theirs):
    import_timm()
    import torch
    from timm.layers import BlurPool2d

    maps = random_maps(2, *size, 3).astype(np.float32)
    layer = BlurPool2d(3, filt_size=3, stride=2, pad_mode=theirs)
    expected = layer(torch.tensor(maps).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    ours = downsample.blur(jnp.asarray(maps), padding)
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", downsample.POOLS)
def test_a_pool_at_every_position_has_the_strided_one_at_every_second(kind):
    maps = jnp.asarray(random_maps(2, 8, 6, 3), jnp.float32)
    pool = downsample.POOLS[kind]
    for padding in ("symmetric", "circular"):
        dense = pool(maps, 1, padding)
        assert dense.shape == maps.shape
        strided = pool(maps, 2, padding)
        np.testing.assert_allclose(dense[:, ::2, ::2], strided, atol=1e-6)
        rolled = pool(jnp.roll(maps, 3, 1), 1, padding)
        is_exact = np.allclose(rolled, jnp.roll(dense, 3, 1), atol=1e-6)
        assert is_exact == (padding == "circular")


def test_a_low_pass_filter_takes_the_place_of_a_mean_but_not_of_a_maximum():
    maps = jnp.asarray(random_maps(1, 8, 8, 2), jnp.float32)
    blurred = BlockConfig(downsample="blur")
    np.testing.assert_array_equal(downsample.pool(maps, "average", blurred), maps)
    highest = downsample.pool(maps, "max", blurred)
    np.testing.assert_array_equal(highest, downsample.max_pool(maps, 1))


REFUSED = [
    ("vit_tiny", 32, {"padding": "circular"}, "a ViT cuts the image into patches"),
    ("maxvit_tiny", 64, {"downsample": "aps"}, "a stack with M: its windows and grids"),
    ("maxvit_tiny", 64, {"relative_bias": "torus"}, "windows and grids"),
    ("astroformer_pico", 28, {"downsample": "aps"}, "by 8.*28x28 px.*32x32 would do"),
    ("astroformer_pico", 36, {"padding": "circular"}, "by 8.*36x36.*32x32 would do"),
    ("astroformer_pico", 32, {"downsample": "blurr"}, "not one of strided, blur, aps"),
]


@pytest.mark.parametrize(("name", "size", "fields", "said"), REFUSED)
def test_what_cannot_be_exact_is_refused_with_the_reason(name, size, fields, said):
    with pytest.raises(ValueError, match=said):
        create_model(name, 5, size, **fields)


def test_every_row_but_windows_can_be_exact():
    """No field of a block's config is forgotten where a map is halved."""
    configs = [
        value for value in vars(block_config).values() if isinstance(value, BlockConfig)
    ]
    assert {config.stride_in for config in configs} == {"depthwise", "pool"}
    assert {config.pool for config in configs} == {*downsample.POOLS}
