"""From the bytes of an image file to uint8 pixels in the form that a data set has.

JPEG, PNG, WebP, TIFF and BMP are read, gray, color, palette and CMYK, in 8 bits a
channel, and gray in 16; cameras' rotation marks (EXIF) are obeyed. Color in 16 bits is
read by its upper 8, which is all that Pillow gives. Whatever else a file holds is told
by name, never guessed.
"""

import dataclasses
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from hybrid_jax.errors import first_line

# What Pillow may try: its other decoders serve an attacker more than our users.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
GRAY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")

# How an image of another shape comes to a size: PIL images and `(width, height)`.
FITS: dict[str, Callable] = {
    "crop": lambda image, size: ImageOps.fit(image, size, Image.Resampling.BICUBIC),
    "pad": lambda image, size: ImageOps.pad(image, size, Image.Resampling.BICUBIC),
    "stretch": lambda image, size: image.resize(size, Image.Resampling.BICUBIC),
}


class Unreadable(Exception):
    """The bytes are no image that is read here; the message says why."""


class Facts(NamedTuple):
    """What is known of one image: pixels, gray or not, its highest level, its error.

    `format` is Pillow's name of the format, empty where nobody looked for it.
    """

    height: int
    width: int
    gray: bool
    peak: int  # at least 255
    error: str = ""
    format: str = ""


@dataclasses.dataclass(frozen=True)
class Form:
    """What all images of a data set are brought to.

    Attributes:
      size: `(height, width)`.
      channels: 1 or 3.
      bits: of the highest level; what 16-bit images have beyond 8 is dropped.
      fit: row of `FITS`, for images of another size.
    """

    size: tuple[int, int]
    channels: int
    bits: int = 8
    fit: str = "crop"


def decode(content: bytes, form: Form) -> np.ndarray:
    """Pixels uint8 `[H, W, C]`.

    Raises:
      Unreadable: says why.
    """
    image = _open(content)
    if image.format == "JPEG":
        # A large photograph is decoded at a fraction of its size, twice what is needed.
        image.draft(None, (2 * max(form.size), 2 * max(form.size)))
    return bring(_upright(image), form)


def bring(image: Image.Image, form: Form) -> np.ndarray:
    """Pixels uint8 `[H, W, C]` of an image that stands upright."""
    height, width = form.size
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64) >> (form.bits - 8)
        image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    image = image.convert("L" if form.channels == 1 else "RGB")
    if image.size != (width, height):
        image = FITS[form.fit](image, (width, height))
    return np.asarray(image).reshape(height, width, form.channels)


def examine(content: bytes) -> Facts:
    """The facts of an image, which is decoded to the last pixel."""
    return look(content)[0]


def look(content: bytes) -> tuple[Facts, Image.Image | None]:
    """The facts of an image, and itself, upright; nothing where there is an error."""
    try:
        stored = _open(content)
        image = _upright(stored)
    except Unreadable as error:
        return Facts(0, 0, False, 0, str(error)), None
    gray, peak = image.mode in GRAY_MODES, 255
    if image.mode.startswith("I"):
        levels = np.asarray(image)  # whose order of bytes Pillow's own extrema mind
        least, most = int(levels.min()), int(levels.max())
        if least < 0 or most >= 2**16:
            reason = f"its levels go from {least} to {most}, beyond 0 to 65535"
            return Facts(0, 0, False, 0, reason), None
        peak = max(peak, most)
    facts = Facts(image.height, image.width, gray, peak, format=stored.format)
    return facts, image


def _open(content: bytes) -> Image.Image:
    if not content:
        raise Unreadable("it is empty")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        frames = getattr(image, "n_frames", 1)
    except Image.UnidentifiedImageError:
        raise Unreadable(
            f"it is no {', '.join(FORMATS)}: it begins with {content[:6]!r}"
        ) from None
    except Exception as error:  # Pillow's readers raise many kinds
        raise Unreadable(first_line(error)) from None
    if frames > 1 and image.format != "MPO":  # a photograph with its previews
        raise Unreadable(f"it holds {frames} images")
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers")
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's readers raise many kinds
        raise Unreadable(first_line(error)) from None
