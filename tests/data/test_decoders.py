"""Every kind of file that Pillow may be given: read right, or refused by name.

Read right means as the same picture saved plainly, or as arithmetic on its levels.
"""

import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, features

from hybrid_jax.data.image_io import Unreadable, decode, read_info, read_info_and_image
from hybrid_jax.data.pixel_format import ImageInfo, PixelFormat, choose_pixel_format
from tests.data.files import digit, encoded

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 20, 30
AVIF = features.check("avif")
COLOR = Image.fromarray(RNG.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
GRAY = COLOR.convert("L")
SMOOTH = digit(3, 64).convert("RGB")
ALPHA = Image.fromarray(RNG.integers(0, 256, (HEIGHT, WIDTH), np.uint8))


def png(levels, bits, color_type, transparent=b"", interlaced=0):
    """A PNG file of levels `[H, W]` or `[H, W, C]` in any depth that PNG has."""
    height, width = levels.shape[:2]

    def row(values):
        if bits == 16:
            return b"\0" + values.astype(">u2").tobytes()
        spread = np.unpackbits(values.astype(np.uint8).reshape(-1, 1), axis=1)
        return b"\0" + np.packbits(spread[:, 8 - bits :]).tobytes()

    def chunk(name, content):
        checked = name + content
        return struct.pack(">I", len(content)) + checked + _crc(checked)

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlaced)
    body = zlib.compress(b"".join(map(row, levels)))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    if transparent:
        parts.insert(1, chunk(b"tRNS", transparent))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _crc(content):
    return struct.pack(">I", zlib.crc32(content))


def tiff(rows, bits, order="<", samples=1, kind=1, planes=1, zero=1, extra=None):
    """A TIFF file of rows of packed bytes.

    `kind` is 1 unsigned, 2 signed, 3 float; `planes` is 2 if colors lie one after the
    other; a gray level of 0 is white if `zero` is 0; bands beyond gray or RGB are said
    to be unknown if `extra` is 0, and transparency if it is 1 or 2.
    """
    data = b"".join(rows)
    tags = [
        (256, 4, WIDTH),
        (257, 4, HEIGHT),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 2 if samples >= 3 else zero),
        (273, 4, 8 + 2 + 12 * (11 + (extra is not None)) + 4),
        (277, 3, samples),
        (278, 4, HEIGHT),
        (279, 4, len(data)),
        (284, 3, planes),
        *([] if extra is None else [(338, 3, (extra,) * max(samples - 3, 1))]),
        (339, 3, kind),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    entries = b""
    for tag, size, v in tags:
        values = v if isinstance(v, tuple) else (v,)
        entries += struct.pack(order + "HHI", tag, size, len(values))
        kinds = "HH" if size == 3 else "I"
        entries += struct.pack(order + kinds, *(*values, 0)[: len(kinds)])
    count = struct.pack(order + "H", len(tags))
    return head + count + entries + struct.pack(order + "I", 0) + data


def packed(levels, bits):
    """Rows of levels, packed without gaps, the upper bits first."""
    spread = (levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.ravel()).tobytes() for row in spread]


def pixels(content, channels=3, **form):
    return decode(content, PixelFormat((HEIGHT, WIDTH), channels, **form))


def levels(bits, *shape):
    return RNG.integers(0, 2**bits, (HEIGHT, WIDTH, *shape)).astype(np.uint16)


def plain(image):
    return np.asarray(image.convert("RGB"))


# Depth


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_of_few_bits_spans_all_levels(bits):
    few = levels(bits)
    expected = few * (255 // (2**bits - 1))
    np.testing.assert_array_equal(pixels(png(few, bits, 0), 1)[..., 0], expected)
    assert read_info(png(few, bits, 0)).bits == 8


def test_a_tiff_of_12_bits_is_scaled_by_its_own_depth():
    deep = levels(12)
    content = tiff(packed(deep, 12), 12)
    assert read_info(content)[:7] == (*deep.shape, True, deep.max(), "", "TIFF", 12)
    for bits in (8, 14, 16):  # whatever 16-bit images beside it use
        np.testing.assert_array_equal(pixels(content, 1, bits=bits)[..., 0], deep >> 4)


@pytest.mark.parametrize("order", "<>")
def test_a_tiff_of_16_bits_in_either_order_of_bytes(order):
    deep = levels(16)
    rows = [row.astype(order + "u2").tobytes() for row in deep]
    content = tiff(rows, 16, order)
    assert read_info(content).peak == deep.max()
    np.testing.assert_array_equal(pixels(content, 1)[..., 0], deep >> 8)


COLOR_16 = {
    "png": lambda x: png(x, 16, 2),
    "png with alpha": lambda x: png(
        np.dstack([x, np.full(x.shape[:2], 65535, np.uint16)]), 16, 6
    ),
    "tiff": lambda x: tiff([r.astype("<u2").tobytes() for r in x], 16, "<", 3),
    "tiff of Motorola": lambda x: tiff(
        [r.astype(">u2").tobytes() for r in x], 16, ">", 3
    ),
}


@pytest.mark.parametrize("kind", COLOR_16)
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_colors_of_16_bits_lose_only_what_the_data_set_has_too_many_of(kind, bits):
    deep = levels(bits, 3)
    deep[0, 0] = 2**bits - 1
    content = COLOR_16[kind](deep)
    infos = read_info(content)
    assert (infos.error, infos.bits, infos.gray) == ("", 16, False)
    assert infos.peak.bit_length() == bits
    np.testing.assert_array_equal(pixels(content, bits=bits), deep >> (bits - 8))


def infos(count, peak=255, bits=8, **others):
    return [ImageInfo(HEIGHT, WIDTH, True, peak=peak, bits=bits, **others)] * count


@pytest.mark.parametrize(
    ("found", "bits"),
    [
        (infos(60) + infos(5, 65000, 16), 16),
        (infos(5) + infos(60, 4095, 16), 12),
        (infos(60) + infos(5, 3000, 12), 16),
        (infos(60, 4095, 16) + infos(1, 65535, 16, depth=12), 12),
        (infos(60, 4095, 16) + infos(1, 65535, 16, depth=16), 16),
    ],
    ids=["few deep", "many deep", "of 12 bits", "a broken pixel", "a bright one"],
)
def test_the_depth_of_a_data_set_is_that_of_its_deep_images(found, bits):
    assert choose_pixel_format(found, (), "crop", "white", "cells").bits == bits


@pytest.mark.parametrize(("broken", "depth"), [(0, 12), (1, 12), (2, 16)])
def test_one_broken_pixel_has_no_say_in_the_depth_of_an_image(broken, depth):
    for deep in (levels(12), levels(12, 3)):
        deep[1, 1], deep.reshape(-1)[:broken] = 4095, 65535
        info = read_info(png(deep, 16, 0 if deep.ndim == 2 else 2))
        assert (info.depth, info.peak) == (depth, 65535 if broken else 4095)


# Transparency

STROKES = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def transparent(mode):
    image = STROKES.convert(mode)
    image.putalpha(ALPHA)
    return image


def over(background):
    """Black strokes of `ALPHA` on a background, as arithmetic has it."""
    alpha = np.asarray(ALPHA).astype(float)[..., None] / 255
    return np.rint(np.float64(background) * (1 - alpha))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_transparent_lies_on_the_background(kind, mode):
    content = encoded(transparent(mode), kind, **{"lossless": True, "exact": True})
    assert read_info(content).transparent
    for name, color in (("white", [255] * 3), ("black", [0] * 3), ("#ff8800", None)):
        expected = over(color or [255, 136, 0])
        found = pixels(content, background=name)
        assert np.abs(found - expected).max() <= 1


def test_a_palette_and_a_gif_with_a_transparent_color():
    image = COLOR.quantize(16)
    hidden = np.asarray(image) == 3
    expected = plain(image).copy()
    expected[hidden] = 255
    for kind in ("PNG", "GIF"):
        content = encoded(image, kind, transparency=3)
        assert read_info(content).transparent
        np.testing.assert_array_equal(pixels(content), expected)


@pytest.mark.parametrize(
    ("bits", "value"), [(1, 1), (2, 1), (4, 10), (8, 7), (16, 700)]
)
def test_a_gray_png_with_a_transparent_level(bits, value):
    deep = levels(bits)
    deep[4, 5] = value
    content = png(deep, bits, 0, transparent=struct.pack(">H", value))
    assert read_info(content).transparent
    shown = deep >> (bits - 8) if bits > 8 else deep * (255 // (2**bits - 1))
    expected = np.where(deep == value, 255, shown)
    np.testing.assert_array_equal(pixels(content, 1)[..., 0], expected)


def test_an_alpha_that_hides_nothing_is_not_counted():
    image = COLOR.copy()
    image.putalpha(255)
    assert not read_info(encoded(image, "PNG")).transparent
    np.testing.assert_array_equal(pixels(encoded(image, "PNG")), plain(COLOR))


def test_gray_on_a_color_becomes_color():
    gray = infos(3, transparent=True)
    assert choose_pixel_format(gray, (), "crop", "white", "cells").channels == 1
    assert choose_pixel_format(gray, (), "crop", "#ff8800", "cells").channels == 3


def test_the_inspection_sees_what_the_network_sees():
    _, image = read_info_and_image(encoded(transparent("RGB"), "PNG"), "white")
    assert np.abs(plain(image) - over([255] * 3)).max() <= 1


# Formats


def jpeg(image, **options):
    return encoded(image, "JPEG", quality=95, **options)


@pytest.mark.parametrize(
    "content",
    [
        jpeg(SMOOTH, progressive=True),
        jpeg(SMOOTH.convert("CMYK")),
        jpeg(SMOOTH, subsampling=0),
        encoded(SMOOTH, "WEBP", quality=95),
        encoded(SMOOTH, "TIFF", compression="jpeg", quality=95),
    ]
    + [encoded(SMOOTH, "AVIF", quality=95)] * features.check("avif"),
)
def test_kinds_with_loss_are_close_to_the_picture(content):
    found = decode(content, PixelFormat((64, 64), 3))
    assert np.abs(found.astype(int) - np.asarray(SMOOTH)).mean() < 4


def test_a_ycck_jpeg_is_close_to_the_picture():
    content = bytearray(jpeg(SMOOTH.convert("CMYK")))
    at = content.find(b"Adobe")
    if at < 0:  # Pillow marks its CMYK as Adobe does, so that readers invert it
        pytest.skip("this Pillow writes CMYK without Adobe's mark")
    assert read_info(bytes(content)).error == ""
    content[at + 11] = 2  # says YCCK of CMYK: other colors, but four channels still
    assert decode(bytes(content), PixelFormat((64, 64), 3)).shape == (64, 64, 3)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiffs(compression):
    content = encoded(COLOR, "TIFF", compression=compression)
    np.testing.assert_array_equal(pixels(content), plain(COLOR))
    deep = levels(12)
    content = encoded(Image.fromarray(deep), "TIFF", compression=compression)
    np.testing.assert_array_equal(pixels(content, 1, bits=12)[..., 0], deep >> 4)


def test_a_gif_of_one_image():
    image = COLOR.quantize(32)
    np.testing.assert_array_equal(pixels(encoded(image, "GIF")), plain(image))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mark", [1, 3, 6, 8])
def test_rotation_marks_in_every_format(kind, mark):
    image = SMOOTH.crop((0, 0, 64, 40))
    exif = Image.Exif()
    exif[0x0112] = mark
    content = encoded(image, kind, exif=exif, quality=95)
    turns = {1: 0, 3: 2, 6: -1, 8: 1}[mark]
    expected = np.rot90(np.asarray(image).astype(int), turns)
    found = read_info(content)
    assert (found.height, found.width) == expected.shape[:2]
    decoded = decode(content, PixelFormat(expected.shape[:2], 3))
    assert np.abs(decoded - expected).mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (20_000, 10)])
def test_sides_of_any_length(size):
    image = Image.new("RGB", size, (9, 99, 199))
    assert (pixels(encoded(image, "PNG")) == [9, 99, 199]).all()


def bomb():
    content = bytearray(encoded(GRAY, "PNG"))
    content[16:24] = struct.pack(">II", 50_000, 50_000)
    content[29:33] = _crc(bytes(content[12:29]))
    return bytes(content)


def animated(kind):
    pages = {"save_all": True, "append_images": [GRAY.copy()]}
    return encoded(COLOR.copy(), kind, **pages)


def damaged_jpeg():
    content = bytearray(jpeg(SMOOTH))
    start = content.find(b"\xff\xdb") + 2  # the length of its first table
    content[start : start + 2] = b"\xff\xff"
    return bytes(content)


DEEP_ALPHA = np.dstack([levels(16), levels(16)])


@pytest.mark.parametrize(("samples", "gray"), [(2, True), (4, False)])
@pytest.mark.parametrize("extra", [1, 2])
def test_one_more_band_of_a_tiff_may_be_transparency(samples, gray, extra):
    """Levels of premultiplied colors (1) are half of those that they stand for."""
    row = np.full((WIDTH, samples), 100, np.uint8)
    row[:, -1] = 128
    content = tiff([row.tobytes()] * HEIGHT, 8, samples=samples, extra=extra)
    found = read_info(content)
    assert (found.error, found.gray, found.transparent) == ("", gray, True)
    level = 100 if extra == 2 else 100 * 255 / 128
    over_white = level * 128 / 255 + 255 * 127 / 255
    np.testing.assert_allclose(pixels(content, 3), over_white, atol=2)


def test_premultiplied_colors_of_16_bits_are_refused():
    found = read_info(tiff([], 16, samples=4, extra=1))
    assert "16 bits are multiplied by its transparency" in found.error


def test_zeros_behind_the_end_of_a_photograph_are_padding():
    whole = jpeg(SMOOTH)
    np.testing.assert_array_equal(pixels(whole + bytes(512), 3), pixels(whole, 3))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"a text, whatever its name says", "it is no JPEG, PNG"),
        (bomb(), "million pixels: shrink it"),
        (animated("GIF"), "it holds 2 images"),
        (animated("PNG"), "it holds 2 images"),
        (animated("WEBP"), "it holds 2 images"),
        (animated("TIFF"), "it holds 2 images"),
        (jpeg(SMOOTH)[:600], "runcated"),
        (damaged_jpeg(), ""),
        (encoded(COLOR.convert("LAB"), "TIFF"), "its pixels are LAB"),
        (encoded(Image.fromarray(np.ones((4, 4), "f4")), "TIFF"), "floating-point"),
        (tiff(packed(levels(12), 12), 12, ">"), "damaged TIFF, or one of a kind"),
        (tiff([], 16, samples=3, planes=2), "16 bits are stored plane by plane"),
        (tiff([], 16, zero=0), "its level 0 of 16 bits is white"),
        (tiff([], 8, zero=0, planes=2), "its level 0 of 8 bits is white"),
        (tiff([], 8, kind=2), "its 8-bit levels are signed"),
        (tiff([], 8, samples=4, extra=0), "4 bands, of which only 3 would be read"),
        (tiff([], 8, samples=4), "4 bands, of which only 3 would be read"),
        (tiff([], 16, samples=4, extra=0), "4 bands, of which only 3 would be read"),
        (tiff([], 8, samples=5, extra=0), "5 bands, of which only 3 would be read"),
        (tiff([], 8, samples=2, extra=0), "2 bands, of which only 1 would be read"),
        (jpeg(SMOOTH)[:600].ljust(1500, b"\0"), "its last 900 bytes are zeros"),
        (encoded(COLOR, "WEBP")[:-70] + bytes(70), "its last 70 bytes are zeros"),
        pytest.param(
            encoded(COLOR, "AVIF")[:-70] + bytes(70) if AVIF else b"",
            "its last 70 bytes are zeros",
            marks=pytest.mark.skipif(not AVIF, reason="this Pillow reads no AVIF"),
        ),
        (png(DEEP_ALPHA, 16, 4), "16-bit gray with transparency"),
        (png(levels(16, 3), 16, 2, bytes(6)), "16-bit color with a transparent color"),
        (encoded(Image.fromarray(np.full((4, 4), -5, "i4")), "TIFF"), "beyond 0 to"),
        (encoded(Image.fromarray(np.full((4, 4), 70000, "i4")), "TIFF"), "beyond 0"),
        (encoded(COLOR, "PPM"), "it begins with 'P6"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_read_is_refused_by_name(content, said, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_info(content)
    assert found.error
    assert said in found.error
    assert "\n" not in found.error
    with pytest.raises(Unreadable):
        pixels(content)
    assert capfd.readouterr() == ("", "")


READ = """
import io, sys
from PIL import Image
from hybrid_jax.data.image_io import read_info
content = sys.stdin.buffer.read()
if sys.argv[1] == "here":
    assert read_info(content).error
else:
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        pass
"""


def test_libtiff_prints_nothing_to_the_terminal():
    content = encoded(COLOR.copy(), "TIFF", compression="tiff_lzw")
    content = content[:60] + bytes(400) + content[460:]

    def printed(how):
        command = [sys.executable, "-c", READ, how]
        done = subprocess.run(command, input=content, capture_output=True, check=True)
        return done.stdout + done.stderr

    assert printed("by Pillow alone")
    assert printed("here") == b""
