"""Modes of Pillow images: bit depth and transparency.

Pillow reads gray levels of up to 16 bits, but only the upper 8 bits of colors. A second
decoding in the other byte order reads their lower 8 bits.
"""

import sys
from typing import Any

import numpy as np
from PIL import Image, ImageColor
from PIL import TiffImagePlugin as tiff

GRAY = {"1", "L", "LA", "La"}
DEEP_GRAY = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
COLOR = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
MAX_LEVEL = 2**16 - 1  # the highest level that is read
RARE = 1000  # one in so many levels of an image may be a broken pixel's
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}  # and the modes of what they show
# Bands of a TIFF by its photometric interpretation: gray, RGB, palette, CMYK, YCbCr.
_BANDS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
_ALPHA = ((1,), (2,))  # meanings of one more band that are transparency
# Factors by which Pillow widens gray levels of fewer than 8 bits.
_WIDENED = {"L;2": 85, "L;4": 17}


def stored_bits(image: Image.Image) -> int:
    """Return the bits of a level in the file: 8 for 8 or fewer, else 12 or 16.

    Args:
      image: opened but not loaded.
    """
    raw_mode = _raw_mode(image)
    if raw_mode.endswith((";12", ";12F")):
        return 12
    return 16 if image.mode in DEEP_GRAY or ";16" in raw_mode else 8


def is_gray(image: Image.Image) -> bool:
    """Return whether an opened image is gray."""
    return image.mode in GRAY | DEEP_GRAY


def unsupported_reason(image: Image.Image) -> str:
    """Explain why an opened image is not supported; empty if it is."""
    if image.mode == "F":
        return "its pixels are floating-point numbers: save it in 8 or 16 bits"
    if image.mode not in GRAY | DEEP_GRAY | COLOR:
        return f"its pixels are {image.mode}: save it in gray or RGB"
    deep = stored_bits(image) == 16
    if deep and _raw_mode(image).startswith(tuple(_PREMULTIPLIED)):
        return "its 16 bits are multiplied by its transparency: save it in 8 bits"
    if deep and _raw_mode(image).startswith("LA"):
        return "it is 16-bit gray with transparency: save it without, or in 8 bits"
    if deep and image.mode in COLOR and "transparency" in image.info:
        return "it is 16-bit color with a transparent color: save it in 8 bits"
    return _unsupported_tiff(image) if image.format == "TIFF" else ""


def undo_premultiplication(image: Image.Image) -> Image.Image:
    """Return a loaded image whose levels are not multiplied by its transparency."""
    mode = _PREMULTIPLIED.get(image.mode)
    return image.convert(mode) if mode else image


def widen_transparency(image: Image.Image) -> None:
    """Scale a transparent gray level of 2 or 4 bits as Pillow scales the pixels.

    Args:
      image: opened but not loaded.
    """
    factor = _WIDENED.get(_raw_mode(image))
    if factor and "transparency" in image.info:
        image.info["transparency"] *= factor


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height before the EXIF orientation is applied.

    Args:
      image: opened but not loaded.
    """
    if image.format != "TIFF":
        return image.size
    tags = _tiff_tags(image)  # Pillow swaps `size` of a TIFF when it opens it
    return tags[tiff.IMAGEWIDTH], tags[tiff.IMAGELENGTH]


def read_lower_bytes(image: Image.Image) -> Image.Image:
    """Swap byte orders, so that Pillow reads the lower 8 of 16 bits of each color.

    Args:
      image: opened but not loaded, of a mode in `COLOR`.
    """
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

    def swapped(args: str | tuple[Any, ...]) -> str | tuple[Any, ...]:
        raw_mode, *rest = (args,) if isinstance(args, str) else args
        raw_mode = raw_mode[:-1] + other[raw_mode[-1]]
        return raw_mode if isinstance(args, str) else (raw_mode, *rest)

    # Pillow sets `tile` on images that are opened but not loaded.
    tiles = image.tile  # type: ignore[attr-defined]  # of a subclass
    vars(image)["tile"] = [tile._replace(args=swapped(tile.args)) for tile in tiles]
    return image


def peak_and_depth(image: Image.Image, bits: int) -> tuple[int, int]:
    """Return the highest level of a loaded image, at least 255, and its depth.

    The depth is the bits that the levels need, at least 8, but for one in `RARE` levels
    and at least one: a broken pixel of a camera has no say.

    Args:
      image: gray, or color with its upper 8 bits.
      bits: bits of a level in the file.

    Raises:
      ValueError: levels exceed 16 bits.
    """
    if image.mode in DEEP_GRAY:
        levels, more = _deep_levels(image), 0
    elif bits == 8:
        return 255, 8
    else:
        levels, more = np.asarray(image.convert("RGB")), 8
    rare = max(1, levels.size // RARE)
    depth = int(levels.max()).bit_length()
    peak = ((int(levels.max()) + 1) << more) - 1
    while depth and np.count_nonzero(levels >= 1 << (depth - 1)) <= rare:
        depth -= 1
    return max(255, peak), max(8, depth + more)


def deep_levels(
    image: Image.Image, low_bytes: Image.Image | None = None
) -> np.ndarray | None:
    """Return levels int64 `[H, W]` or `[H, W, 3]`; None if the upper 8 bits are all.

    Args:
      image: loaded.
      low_bytes: lower 8 bits of a 16-bit color image.

    Raises:
      ValueError: levels exceed 16 bits.
    """
    if image.mode in DEEP_GRAY:
        return _deep_levels(image)
    return None if low_bytes is None else color_levels(image, low_bytes)


def color_levels(image: Image.Image, low_bytes: Image.Image) -> np.ndarray:
    """Return levels int64 `[H, W, 3]` of a 16-bit color image.

    Args:
      image: loaded, with the upper 8 bits.
      low_bytes: the lower 8 bits.
    """
    high_bytes = np.asarray(image.convert("RGB")).astype(np.int64)
    return high_bytes << 8 | np.asarray(low_bytes.convert("RGB"))


def to_8_bits(image: Image.Image, levels: np.ndarray, bits: int) -> Image.Image:
    """Convert an image to 8 bits.

    Args:
      image: loaded.
      levels: result of `deep_levels`.
      bits: bits in use; levels of more bits become 255.
    """
    image_8_bit = Image.fromarray(
        np.clip(levels >> (bits - 8), 0, 255).astype(np.uint8)
    )
    if "transparency" in image.info:  # the transparent level of a deep gray image
        is_opaque = levels != image.info["transparency"]
        image_8_bit.putalpha(
            Image.fromarray(np.where(is_opaque, 255, 0).astype(np.uint8))
        )
    elif image.mode.endswith("A"):
        image_8_bit.putalpha(image.getchannel("A"))
    return image_8_bit


def is_transparent(image: Image.Image) -> bool:
    """Return whether any pixel of a loaded image is transparent."""
    if not image.has_transparency_data:
        return False
    if image.mode in DEEP_GRAY:
        return bool((np.asarray(image) == image.info["transparency"]).any())
    return bool((np.asarray(image.convert("RGBA").getchannel("A")) < 255).any())


def composite(image: Image.Image, background: str) -> Image.Image:
    """Composite an 8-bit image over a background color; RGB if it was transparent.

    Args:
      image: loaded.
      background: a color, as `PIL.ImageColor` names it.
    """
    if not image.has_transparency_data:
        return image
    canvas = Image.new("RGBA", image.size, background)
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def composite_levels(
    levels: np.ndarray, image: Image.Image, background: str, peak: int
) -> np.ndarray:
    """Composite levels of a color image over a background color.

    Args:
      levels: `[H, W, 3]`, result of `color_levels`.
      image: loaded, with the upper 8 bits.
      background: a color, as `PIL.ImageColor` names it; white is as high as the bits of
        the peak go.
      peak: highest level of the image.

    Returns:
      Levels int64 `[H, W, 3]`.
    """
    if not image.has_transparency_data:
        return levels
    opacity = np.asarray(image.convert("RGBA").getchannel("A"))[..., None] / 255
    white = (1 << peak.bit_length()) - 1
    color = np.array(ImageColor.getrgb(background)[:3]) / 255 * white
    return np.rint(levels * opacity + color * (1 - opacity)).astype(np.int64)


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name of the file's pixel layout; empty if there is none."""
    tiles = getattr(image, "tile", ())
    args = tiles[0].args if tiles else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _unsupported_tiff(image: Image.Image) -> str:
    """Explain why Pillow would misread the levels of an opened TIFF; empty if not."""
    tags = _tiff_tags(image)
    bits = max(tags.get(tiff.BITSPERSAMPLE, (1,)))
    is_planar = tags.get(tiff.PLANAR_CONFIGURATION) == 2
    if is_planar and bits != 8:
        return (
            f"its levels of {bits} bits are stored plane by plane: save it interleaved"
        )
    if tags.get(tiff.PHOTOMETRIC_INTERPRETATION) == 0 and (is_planar or bits > 8):
        return f"its level 0 of {bits} bits is white: save it with 0 as black"
    if bits == 8 and 2 in tags.get(tiff.SAMPLEFORMAT, ()):
        return "its 8-bit levels are signed: save them unsigned"
    return _surplus_bands(tags)


def _surplus_bands(tags: Any) -> str:
    """Explain which bands of a TIFF would be left out, such as near infrared."""
    known = _BANDS.get(tags.get(tiff.PHOTOMETRIC_INTERPRETATION))
    found = tags.get(tiff.SAMPLESPERPIXEL, 1)
    if known is None or found <= known:
        return ""
    if found == known + 1 and tags.get(tiff.EXTRASAMPLES, ()) in _ALPHA:
        return ""
    return (
        f"it has {found} bands, of which only {known} would be read, and the others "
        "are no transparency: save those to use in gray or RGB"
    )


def _tiff_tags(image: Image.Image) -> Any:
    return image.tag_v2  # type: ignore[attr-defined]  # of a subclass


def _deep_levels(image: Image.Image) -> np.ndarray:
    """Return levels int64 `[H, W]` of a deep gray image.

    Raises:
      ValueError: levels are negative or exceed 16 bits.
    """
    levels = np.asarray(image).astype(np.int64)
    least, most = int(levels.min()), int(levels.max())
    if least < 0 or most > MAX_LEVEL:
        raise ValueError(
            f"its levels go from {least} to {most}, beyond 0 to {MAX_LEVEL}"
        )
    return levels
