"""Every operation on colors against PIL's."""

import colorsys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from hybrid_jax.augment import color
from tests.augment.images import from_pil, noise, smooth, to_pil

ENHANCEMENTS = {
    color.brightness: ImageEnhance.Brightness,
    color.contrast: ImageEnhance.Contrast,
    color.saturation: ImageEnhance.Color,
    color.sharpness: ImageEnhance.Sharpness,
}
SOURCES = [noise(), smooth(), noise(channels=1), smooth(channels=1)]


def apply(operation, images, *values):
    values = jnp.broadcast_to(jnp.float32(values or 0.0), (len(images),))
    return np.asarray(jax.jit(operation)(np.float32(images), values))


def assert_as_pil(ours, images, function, levels):
    theirs = np.stack([from_pil(function(to_pil(image))) for image in images])
    assert (ours == np.round(ours)).all()
    assert np.abs(ours - theirs.astype(int)).max() <= levels


@pytest.mark.parametrize("operation", ENHANCEMENTS, ids=lambda o: o.__name__)
@pytest.mark.parametrize("images", SOURCES, ids=["noise", "smooth", "gray", "grays"])
def test_enhancements(operation, images):
    for factor in (0.0, 0.1, 0.55, 1.0, 1.45, 1.9):
        ours = apply(operation, images, factor)
        # One level where products round differently just below a whole number.
        assert_as_pil(ours, images, partial(enhanced, operation, factor), 1)
        if factor == 1.0:
            np.testing.assert_array_equal(ours, images)


def enhanced(operation, factor, image):
    return ENHANCEMENTS[operation](image).enhance(factor)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize(bits):
    for images in SOURCES:
        ours = apply(color.posterize, images, bits)
        assert_as_pil(ours, images, lambda i: ImageOps.posterize(i, bits), 0)


@pytest.mark.parametrize("threshold", [0.0, 8.5, 127.5, 200.0, 255.0])
def test_solarize(threshold):
    for images in SOURCES:
        ours = apply(color.solarize, images, threshold)
        assert_as_pil(ours, images, lambda i: ImageOps.solarize(i, threshold), 0)


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_stretched_histograms(name):
    flat = np.full(noise().shape, 7, np.uint8)
    two_levels = np.where(noise() > 100, 90, 40).astype(np.uint8)
    # Of a large image each step of the table is many pixels.
    for images in [*SOURCES, flat, two_levels, smooth(size=(64, 80))]:
        ours = apply(getattr(color, name), images)
        # PIL rounds autocontrast's products down after they have lost a last bit.
        levels = {"autocontrast": 1, "equalize": 0}[name]
        assert_as_pil(ours, images, getattr(ImageOps, name), levels)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.05, 0.3, 0.5])
def test_hue(turn):
    def turned(image):
        h, s, v = image.convert("HSV").split()
        h = (np.asarray(h).astype(int) + int(turn * 255)) % 256
        h = Image.fromarray(h.astype(np.uint8))
        return Image.merge("HSV", (h, s, v)).convert("RGB")

    for images in SOURCES[:2]:
        ours = apply(color.hue, images, turn)
        theirs = np.stack([from_pil(turned(to_pil(image))) for image in images])
        error = np.abs(ours - theirs.astype(int))
        assert (error <= 1).mean() > 0.99
        # PIL cuts hues to 8 bits: where a last bit decides, they differ by a step.
        assert error.max() <= 255 * 6 / 255


def test_hue_turns_on_the_circle():
    images = smooth()
    ours = apply(color.hue, images, 0.25)
    for before, after in zip(images[0, 3], ours[0, 3], strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(before / 255))
        expected = np.float32(colorsys.hsv_to_rgb((h + 0.25) % 1, s, v)) * 255
        np.testing.assert_allclose(after, expected, atol=5)  # of 8-bit hues


def test_gray_images_have_no_hue_or_saturation():
    images = noise(channels=1)
    for operation in (color.hue, color.saturation):
        np.testing.assert_array_equal(apply(operation, images, 0.3), images)
    np.testing.assert_array_equal(color.gray(jnp.float32(images)), images)
