"""The policies: what is drawn, how far it goes, and that it is what PIL does."""

import functools
import importlib.util
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from hybrid_jax.augment import auto_augment, color
from hybrid_jax.augment.auto_augment import (
    COLOR_OPERATIONS,
    GEOMETRIC_OPERATIONS,
    OPERATIONS,
    SPACES,
    Draws,
    affine_matrices,
    apply_color_operations,
    draw_operations,
)
from hybrid_jax.augment.resample import bilinear
from hybrid_jax.config.schema import AugmentConfig
from tests.augment.images import each_channel, from_pil, noise, smooth, to_pil
from tests.timm_oracle import import_timm

KEY = jax.random.key(0)
SIZE = (9, 12)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def draw(key, batch, policy, operations, magnitude) -> Draws:
    config = AugmentConfig(policy=policy, operations=operations, magnitude=magnitude)
    return draw_operations(key, batch, config)


def only(operation, amount) -> Draws:
    """One step of one image."""
    return Draws(
        slots=jnp.full((1, 1), OPERATIONS.index(operation)),
        images=jnp.zeros((1, len(OPERATIONS)), int),
        amounts=jnp.full((1, 1), amount),
    )


@pytest.mark.parametrize("batch", [3, 14, 64])
def test_every_image_has_every_operation_with_the_same_probability(batch):
    draws = jax.vmap(lambda key: draw(key, batch, "rand_augment", 2, 9).operations)
    operations = np.asarray(draws(jax.random.split(KEY, 2000)))
    assert operations.shape == (2000, 2, batch)
    for step in (0, 1):
        for image in (0, batch - 1):
            counts = np.bincount(operations[:, step, image], minlength=14)
            assert len(counts) == 14
            # Of 2000 / 14 = 143 expected, five deviations of a binomial.
            assert np.abs(counts - 2000 / 14).max() < 58
    same = (operations[:, 0] == operations[:, 1]).mean()
    assert same == pytest.approx(1 / 14, abs=0.02)  # steps know nothing of each other


def test_each_slot_is_used_once_and_images_are_those_in_the_slots():
    steps = draw(KEY, 64, "rand_augment", 3, 9)
    for slots, in_slot in zip(np.asarray(steps.slots), steps.images, strict=True):
        assert len(set(slots)) == 64
        np.testing.assert_array_equal(np.asarray(in_slot)[slots], np.arange(64))
    shares = [np.bincount(row, minlength=14) for row in np.asarray(steps.operations)]
    assert np.max(shares) <= steps.share == 5


def test_amounts():
    steps = draw(KEY, 1000, "rand_augment", 2, 9)
    assert set(np.unique(steps.amounts)) == {np.float32(-0.3), np.float32(0.3)}
    wide = draw(KEY, 1000, "trivial_augment", 2, 9)
    assert wide.slots.shape == (1, 1000)  # one operation, whatever rand_augment has
    levels = np.abs(np.asarray(wide.amounts)) * 30
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    counts = np.bincount(np.round(levels).astype(int).ravel(), minlength=31)
    assert counts.min() > 10


def reaches(name: str, size) -> dict[str, float]:
    """How far operations go at magnitude 30, read off from matrices and strengths."""
    moved = {
        move: affine_matrices(only(move, 1.0), name, size)[0, 0]
        for move in GEOMETRIC_OPERATIONS
    }
    one = jnp.ones(1)
    strength = {
        o: float(auto_augment._strength(o, one, SPACES[name])[0])
        for o in COLOR_OPERATIONS
    }
    return {
        "ShearX": float(moved["shear_x"][1, 0]),
        "ShearY": float(moved["shear_y"][0, 1]),
        "TranslateX": float(moved["translate_x"][1, 2]),
        "TranslateY": float(moved["translate_y"][0, 2]),
        "Rotate": math.degrees(math.acos(float(moved["rotate"][0, 0]))),
        "Brightness": strength[color.brightness] - 1,
        "Color": strength[color.saturation] - 1,
        "Contrast": strength[color.contrast] - 1,
        "Sharpness": strength[color.sharpness] - 1,
        "Posterize": strength[color.posterize],
        "Solarize": strength[color.solarize],
    }


# As torchvision documents them; translations of 331 x 662 px, to be whole.
PUBLISHED = {
    "rand_augment": [0.3, 0.3, 300, 150, 30, 0.9, 0.9, 0.9, 0.9, 4, 0],
    "trivial_augment": [0.99, 0.99, 32, 32, 135, 0.99, 0.99, 0.99, 0.99, 2, 0],
}


@pytest.mark.parametrize("name", SPACES)
def test_reaches_are_the_published_ones(name):
    ours = list(reaches(name, (331, 662)).values())
    assert ours == pytest.approx(PUBLISHED[name], rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("name", SPACES)
def test_reaches_are_torchvisions(name):
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        pytest.skip("needs torchvision, not a stand-in for it")
    from torchvision.transforms import autoaugment

    if name == "rand_augment":
        space = autoaugment.RandAugment()._augmentation_space(31, (331, 662))
    else:
        space = autoaugment.TrivialAugmentWide()._augmentation_space(31)
    assert len(OPERATIONS) == len(space)
    for operation, reach in reaches(name, (331, 662)).items():
        bins, _ = space[operation]
        assert float(bins[-1]) == pytest.approx(reach, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("level", [0, 3, 10])
def test_strengths_are_timms_where_conventions_agree(level):
    import_timm()
    from timm.data import auto_augment as theirs

    amount, space = level / 10, SPACES["rand_augment"]
    [enhanced] = theirs._enhance_increasing_level_to_arg(level, {})
    ours = auto_augment._strength(color.contrast, jnp.float32([amount]), space)
    assert abs(enhanced - 1) == pytest.approx(float(ours[0]) - 1, abs=1e-6)
    for move, entry, function in (
        ("shear_x", (1, 0), theirs._shear_level_to_arg),
        (
            "rotate",
            (1, 0),
            lambda *a: [np.sin(np.radians(theirs._rotate_level_to_arg(*a)))][0],
        ),
    ):
        matrix = affine_matrices(only(move, amount), "rand_augment", SIZE)[0, 0]
        [value] = np.ravel(function(level, {}))
        assert abs(value) == pytest.approx(abs(float(matrix[entry])), abs=1e-6)


def affine(*coefficients):
    def transform(band):
        return band.transform(
            band.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )

    return transform


@pytest.mark.parametrize(
    ("move", "amount", "theirs"),
    [
        ("shear_x", 0.5, affine(1, 0.15, 0, 0, 1, 0)),
        ("shear_y", -0.5, affine(1, 0, 0, -0.15, 1, 0)),
        ("translate_x", 0.5, affine(1, 0, 2, 0, 1, 0)),  # 12 * 150 / 331 / 2 = 2.7
        ("translate_y", -1.0, affine(1, 0, 0, 0, 1, -4)),  # 9 * 150 / 331 = 4.1
        ("rotate", 0.5, lambda band: band.rotate(15, Image.Resampling.BILINEAR)),
        ("rotate", -1.0, lambda band: band.rotate(-30, Image.Resampling.BILINEAR)),
    ],
)
def test_moves_are_pils(move, amount, theirs):
    image = noise(1, SIZE)
    matrices = affine_matrices(only(move, amount), "rand_augment", SIZE)[0]
    ours = np.asarray(jax.jit(bilinear, static_argnums=2)(image, matrices, SIZE))[0]
    expected = each_channel(theirs, image[0])
    np.testing.assert_allclose(ours, expected, atol=0.01)


def by_pil(image, operation, amount):
    """What PIL makes of an image at -1 to 1 of the way to RandAugment's highest."""
    enhance = {
        color.brightness: ImageEnhance.Brightness,
        color.contrast: ImageEnhance.Contrast,
        color.saturation: ImageEnhance.Color,
        color.sharpness: ImageEnhance.Sharpness,
    }
    if operation in enhance:
        return enhance[operation](image).enhance(1 + 0.9 * amount)
    return {
        color.posterize: lambda i: ImageOps.posterize(i, 8 - round(4 * abs(amount))),
        color.solarize: lambda i: ImageOps.solarize(i, 255 - 255 * abs(amount)),
        color.autocontrast: ImageOps.autocontrast,
        color.equalize: ImageOps.equalize,
    }.get(operation, lambda i: i)(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_gets_the_colors_of_its_operation(channels):
    images = smooth(40, channels=channels)
    steps = draw(KEY, 40, "rand_augment", 1, 15)
    out = jax.jit(apply_color_operations, static_argnums=2)(
        np.float32(images), steps, "rand_augment"
    )
    drawn = np.asarray(steps.operations[0])
    assert len(set(drawn)) == 14
    for i, (image, ours) in enumerate(zip(images, out, strict=True)):
        amount = float(steps.amounts[0, i])
        theirs = by_pil(to_pil(image), OPERATIONS[drawn[i]], amount)
        assert np.abs(ours - from_pil(theirs).astype(int)).max() <= 1


def test_steps_act_in_their_order():
    images = np.float32(smooth(40))
    steps = draw(KEY, 40, "rand_augment", 2, 15)
    run = jax.jit(apply_color_operations, static_argnums=2)
    both = run(images, steps, "rand_augment")
    for i in (0, 1):
        one = jax.tree.map(lambda x, i=i: x[i : i + 1], steps)
        images = run(images, one, "rand_augment")
    np.testing.assert_allclose(both, images, atol=1)
