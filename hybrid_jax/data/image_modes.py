"""What the pixels of a Pillow image mean: how deep they are, and what shows through.

Pillow keeps gray levels of more than 8 bits, and of colors the upper 8 alone. Their
lower 8 are read here by a second decoding, in the other order of bytes.
"""

import sys

import numpy as np
from PIL import Image

GRAY = {"1", "L", "LA", "La"}
DEEP_GRAY = {"I", "I;16", "I;16L", "I;16B", "I;16N"}
COLOR = {"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
DEEPEST = 2**16 - 1  # the highest level that is read


def stored_bits(image: Image.Image) -> int:
    """Bits of a level in the file: 8 or fewer count as 8, else 12 or 16.

    Args:
      image: opened, and not yet loaded.
    """
    raw_mode = _raw_mode(image)
    if raw_mode.endswith((";12", ";12F")):
        return 12
    return 16 if image.mode in DEEP_GRAY or ";16" in raw_mode else 8


def refusal(image: Image.Image) -> str:
    """Why an opened image is not read, in words; empty if it is."""
    if image.mode == "F":
        return "its pixels are floating-point numbers: save it in 8 or 16 bits"
    if image.mode not in GRAY | DEEP_GRAY | COLOR:
        return f"its pixels are {image.mode}: save it in gray or RGB"
    deep = stored_bits(image) == 16
    if deep and _raw_mode(image).startswith("LA"):
        return "it is 16-bit gray with transparency: save it without, or in 8 bits"
    if deep and image.mode in COLOR and "transparency" in image.info:
        return "it is 16-bit color with a transparent color: save it in 8 bits"
    return ""


def read_lower_bytes(image: Image.Image) -> Image.Image:
    """The lower 8 of 16 bits of each color, in place of the upper 8.

    Args:
      image: opened, and not yet loaded; its mode is a color's.
    """
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

    def swapped(args):
        raw_mode, *rest = (args,) if isinstance(args, str) else args
        raw_mode = raw_mode[:-1] + other[raw_mode[-1]]
        return raw_mode if isinstance(args, str) else (raw_mode, *rest)

    image.tile = [tile._replace(args=swapped(tile.args)) for tile in image.tile]
    return image


def highest_level(image: Image.Image, bits: int) -> int:
    """The highest level of a loaded image, at least 255.

    Args:
      image: of a gray mode, or of a color's, with the upper 8 bits.
      bits: as the file stores them.

    Raises:
      ValueError: levels go beyond 16 bits.
    """
    if image.mode in DEEP_GRAY:
        return max(255, int(_deep_levels(image).max()))
    if bits == 8:
        return 255
    upper = max(most for _, most in image.convert("RGB").getextrema())
    return upper << 8 | 255


def to_8_bits(
    image: Image.Image, bits: int, lower: Image.Image | None = None
) -> Image.Image:
    """An image whose highest level is that of 8 bits.

    Args:
      image: loaded.
      bits: of the level that becomes 255; higher ones become 255 too.
      lower: of a color, its lower 8 bits, where it has 16.

    Raises:
      ValueError: levels go beyond 16 bits.
    """
    if image.mode in DEEP_GRAY:
        levels = _deep_levels(image)
    elif lower is not None:
        upper = np.asarray(image.convert("RGB")).astype(np.int64)
        levels = upper << 8 | np.asarray(lower.convert("RGB"))
    else:
        return image
    shallow = Image.fromarray(np.clip(levels >> (bits - 8), 0, 255).astype(np.uint8))
    if "transparency" in image.info:  # a level that is one of a deep gray image
        seen = levels != image.info["transparency"]
        shallow.putalpha(Image.fromarray(np.where(seen, 255, 0).astype(np.uint8)))
    elif image.mode.endswith("A"):
        shallow.putalpha(image.getchannel("A"))
    return shallow


def is_transparent(image: Image.Image) -> bool:
    """Whether anything shows through a loaded image."""
    if not image.has_transparency_data:
        return False
    if image.mode in DEEP_GRAY:
        return bool((np.asarray(image) == image.info["transparency"]).any())
    return image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def on_background(image: Image.Image, background: str) -> Image.Image:
    """An image of 8 bits with nothing to see through, RGB if it had.

    Args:
      image: loaded.
      background: a color, as `PIL.ImageColor` names it.
    """
    if not image.has_transparency_data:
        return image
    ground = Image.new("RGBA", image.size, background)
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _raw_mode(image: Image.Image) -> str:
    """How the file lays out its pixels, in Pillow's words; empty if it does not say."""
    args = image.tile[0].args if image.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _deep_levels(image: Image.Image) -> np.ndarray:
    """Levels int64 `[H, W]` of a deep gray image, in this machine's order of bytes.

    Raises:
      ValueError: they go beyond 16 bits.
    """
    levels = np.asarray(image).astype(np.int64)
    least, most = int(levels.min()), int(levels.max())
    if least < 0 or most > DEEPEST:
        raise ValueError(f"its levels go from {least} to {most}, beyond 0 to {DEEPEST}")
    return levels
