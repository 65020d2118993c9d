"""From files of every kind to pixels, against Pillow and NumPy."""

import io

import numpy as np
import pytest
from PIL import Image

from hybrid_jax.data.image_io import FITS, Unreadable, decode, read_info
from hybrid_jax.data.pixel_format import PixelFormat
from tests.data.files import digit, encoded

RNG = np.random.default_rng(0)
COLOR = Image.fromarray(RNG.integers(0, 256, (20, 30, 3), np.uint8))
GRAY = COLOR.convert("L")
AS_IT_IS = PixelFormat((20, 30), 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("image", [COLOR, GRAY], ids=["color", "gray"])
def test_files_without_loss_come_back_to_the_bit(kind, image):
    pixels = decode(encoded(image, kind), AS_IT_IS)
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
    gray = decode(encoded(image, kind), PixelFormat((20, 30), 1))
    np.testing.assert_array_equal(gray[..., 0], np.asarray(GRAY))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_files_with_loss_are_what_pillow_reads(kind):
    image = digit(3, 40).convert("RGB")
    content = encoded(image, kind, quality=90)
    pixels = decode(content, PixelFormat((40, 40), 3))
    assert np.abs(pixels - np.asarray(image).astype(int)).mean() < 6


def test_cmyk_and_palettes_become_color():
    flat = Image.new("RGB", (16, 16), (200, 30, 60))
    cmyk = decode(
        encoded(flat.convert("CMYK"), "JPEG", quality=95), PixelFormat((16, 16), 3)
    )
    assert np.abs(cmyk.astype(int) - [200, 30, 60]).max() <= 6
    palette = COLOR.quantize(64)
    pixels = decode(encoded(palette, "PNG"), AS_IT_IS)
    np.testing.assert_array_equal(pixels, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_deep_gray_loses_only_what_the_data_set_has_too_many_of(kind, bits):
    levels = RNG.integers(0, 2**bits, (20, 30)).astype(np.uint16)
    content = encoded(Image.fromarray(levels), kind)
    infos = read_info(content)
    assert (infos.gray, infos.peak) == (True, max(255, levels.max()))
    pixels = decode(content, PixelFormat((20, 30), 1, bits=bits))
    np.testing.assert_array_equal(pixels[..., 0], levels >> (bits - 8))


def test_the_order_of_bytes_does_not_matter():
    levels = RNG.integers(0, 2**16, (20, 30)).astype(np.uint16)
    image = Image.frombytes("I;16B", (30, 20), levels.astype(">u2").tobytes())
    content = encoded(image, "TIFF")  # as ImageJ writes it
    assert content[:2] == b"MM" or Image.open(io.BytesIO(content)).mode == "I;16B"
    assert read_info(content).peak == levels.max()
    pixels = decode(content, PixelFormat((20, 30), 1, bits=16))
    np.testing.assert_array_equal(pixels[..., 0], levels >> 8)


@pytest.mark.parametrize("mark", range(1, 9))
def test_rotation_marks_of_cameras_are_obeyed(mark):
    exif = Image.Exif()
    exif[0x0112] = mark
    content = encoded(COLOR, "PNG", exif=exif)
    infos = read_info(content)
    pixels = decode(content, PixelFormat((infos.height, infos.width), 3))
    x = np.asarray(COLOR)
    expected = {
        **{1: x, 2: x[:, ::-1], 3: x[::-1, ::-1], 4: x[::-1]},
        5: x.swapaxes(0, 1),
        6: np.rot90(x, -1),
        7: x[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(x),
    }[mark]
    np.testing.assert_array_equal(pixels, expected)


def test_fits_crop_pad_and_stretch():
    white = encoded(Image.new("L", (40, 20), 255), "PNG")
    shown = {fit: decode(white, PixelFormat((20, 20), 1, fit=fit)) for fit in FITS}
    assert (shown["crop"] == 255).all()
    assert (shown["stretch"] == 255).all()
    assert (shown["pad"][5:15] == 255).all()
    assert (shown["pad"][[0, 1, 18, 19]] == 0).all()
    halves = np.zeros((20, 40), np.uint8)
    halves[:, 10:30] = 255  # what a crop of the middle keeps
    content = encoded(Image.fromarray(halves), "PNG")
    cropped = decode(content, PixelFormat((20, 20), 1))
    assert cropped.min() > 200
    stretched = decode(content, PixelFormat((20, 20), 1, fit="stretch"))
    assert stretched[:, :4].max() < 30


def test_large_photographs_are_decoded_small_and_look_the_same():
    y, x = np.mgrid[:512, :512]
    image = Image.fromarray(
        ((np.sin(x / 40) + np.cos(y / 60) + 2) * 60).astype("uint8")
    )
    small = decode(encoded(image, "JPEG", quality=95), PixelFormat((32, 32), 1))
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.abs(small[..., 0].astype(int) - expected).max() <= 3


PNG = encoded(COLOR, "PNG")
JPEG = encoded(COLOR, "JPEG")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (encoded(COLOR, "PPM"), "begins with 'P6"),
        (b"not an image at all", "it is no JPEG, PNG, WEBP, TIFF, BMP"),
        (JPEG[: len(JPEG) // 2], "runcated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:200] + bytes(50) + PNG[250:], ""),
        (encoded(Image.fromarray(np.ones((4, 4), "f4")), "TIFF"), "floating-point"),
        (
            encoded(GRAY, "TIFF", save_all=True, append_images=[GRAY]),
            "it holds 2 images",
        ),
    ],
    ids=["empty", "map", "text", "jpeg", "png", "crc", "float", "pages"],
)
def test_what_cannot_be_read_says_why(content, said):
    infos = read_info(content)
    assert infos.error
    assert said in infos.error
    assert "\n" not in infos.error
    with pytest.raises(Unreadable):
        decode(content, AS_IT_IS)


def test_an_image_of_too_many_pixels_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    error = read_info(encoded(Image.new("L", (2001, 1000)), "PNG")).error
    assert error == "it has more than 2 million pixels: shrink it, or cut it up"
