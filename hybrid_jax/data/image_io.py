"""From the bytes of an image file to uint8 pixels in the form that a data set has.

Formats are those of `FORMATS`, gray, color, palette and CMYK, up to 16 bits a channel.
Rotation marks of cameras (EXIF) are obeyed, and what is transparent lies on a
background. Whatever else a file holds is refused by name, never guessed.
"""

import dataclasses
import io
import typing
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageOps

from hybrid_jax.data import decoder_messages, image_modes
from hybrid_jax.data.extents import bring_whole
from hybrid_jax.errors import first_line

# What Pillow may try, and the names of such files: its other decoders serve an attacker
# more than our users.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
}
SUFFIXES = tuple(suffix for names in FORMATS.values() for suffix in names)
# Names of image files that are not read here.
OTHERS = (
    ".arw .cr2 .cr3 .czi .dcm .dng .eps .exr .fit .fits .fts .hdr .heic .heif .ico "
    ".icns .j2k .jp2 .jpf .jpx .jxl .lif .lsm .nd2 .ndpi .nef .nii .orf .pbm .pcx .pgm "
    ".pict .pnm .ppm .psd .qoi .raf .ras .raw .rw2 .sgi .svg .svs .tga .vsi .xbm .xpm"
)
OTHER_SUFFIXES = frozenset(OTHERS.split())
# What their files begin with.
BEGINNINGS = {
    **{b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP"},
    **{b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"},
}
TURNED = (5, 6, 7, 8)  # rotation marks of an image that lies on its side
READER = 2  # raised where other pixels come from the same bytes

# How an image of another shape comes to a size: PIL images and `(width, height)`.
FITS: dict[str, Callable] = {
    "crop": lambda image, size: ImageOps.fit(image, size, Image.Resampling.BICUBIC),
    "pad": lambda image, size: ImageOps.pad(image, size, Image.Resampling.BICUBIC),
    "stretch": lambda image, size: image.resize(size, Image.Resampling.BICUBIC),
}


class Unreadable(Exception):
    """The bytes are no image that is read here; the message says why."""


class Facts(NamedTuple):
    """What is known of one image.

    Attributes:
      height, width: in pixels, upright.
      gray: whether it is gray.
      peak: its highest level, at least 255.
      error: why it cannot be read; empty if it can.
      format: Pillow's name of the format; empty where nobody looked for it.
      bits: of a level, as the file stores them: 8, 12 or 16.
      transparent: whether something shows through.
    """

    height: int
    width: int
    gray: bool
    peak: int = 255
    error: str = ""
    format: str = ""
    bits: int = 8
    transparent: bool = False


@dataclasses.dataclass(frozen=True)
class Form:
    """What all images of a data set are brought to.

    Attributes:
      size: `(height, width)`.
      channels: 1 or 3.
      bits: of the highest level of images that store 16; others have their own. 0 is
        not known.
      fit: row of `FITS`, for images of another size.
      background: color behind what is transparent.
      target: `(height, width)` that images come to later, where they are kept whole;
        None where they fill the size.
    """

    size: tuple[int, int]
    channels: int
    bits: int = 16
    fit: str = "crop"
    background: str = "white"
    target: tuple[int, int] | None = None

    def to_json(self) -> dict[str, typing.Any]:
        """A form as JSON holds it, lists for tuples."""
        values = dataclasses.asdict(self)
        return {n: [*v] if isinstance(v, tuple) else v for n, v in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, typing.Any]) -> "Form":
        """The form that `to_json` made, tuples for lists."""
        tuples = {n: tuple(v) for n, v in values.items() if isinstance(v, list)}
        return cls(**values | tuples)


def decode(
    content: bytes | Unreadable, form: Form, extent: tuple[int, int] | None = None
) -> np.ndarray:
    """Pixels uint8 `[H, W, C]` of an image file.

    Args:
      content: of the file, or why there is none.
      form: of the result.
      extent: height and width that the image fills, where images are kept whole.

    Raises:
      Unreadable: says why.
    """
    stored = _open(content)
    bits, lower = image_modes.stored_bits(stored), None
    if bits == 16 and not form.bits:
        raise Unreadable("it has 16 bits, and it is not known how many of them count")
    if bits == 16 and form.bits < 16 and stored.mode in image_modes.COLOR:
        lower = _upright(image_modes.read_lower_bytes(_open(content)))
    if stored.format == "JPEG":
        # A large photograph is decoded at a fraction of its size, twice what is needed.
        stored.draft(None, (2 * max(form.size), 2 * max(form.size)))
    image = _upright(stored)
    try:
        bits = form.bits if bits == 16 else bits
        shallow = image_modes.to_8_bits(image, bits, lower)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    return _brought(shallow, form, extent)


def bring(
    pixels: np.ndarray, form: Form, extent: tuple[int, int] | None = None
) -> np.ndarray:
    """Brings an image that is decoded already to a form, uint8 `[H, W, C]`.

    Args:
      pixels: uint8 `[h, w, C]`.
      form: of the result.
      extent: height and width that the image fills, where images are kept whole.
    """
    gray = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if gray else pixels)
    return _brought(image, form, extent)


def _brought(
    image: Image.Image, form: Form, extent: tuple[int, int] | None
) -> np.ndarray:
    """Pixels uint8 `[H, W, C]` of an image of 8 bits that stands upright."""
    image = image_modes.on_background(image, form.background)
    image = image.convert("L" if form.channels == 1 else "RGB")
    height, width = form.size
    if extent is not None:
        pixels = bring_whole(image, extent, form.size, form.fit)
    elif image.size != (width, height):
        pixels = np.asarray(FITS[form.fit](image, (width, height)))
    else:
        pixels = np.asarray(image)
    return pixels.reshape(height, width, form.channels)


def size_of(content: bytes | Unreadable) -> tuple[int, int]:
    """Height and width of an image that stands upright, from the head of its file.

    Raises:
      Unreadable: says why.
    """
    image = _open(content)
    width, height = image.size
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in TURNED
    except Exception as error:  # Pillow's readers raise many kinds
        raise Unreadable(first_line(error)) from None
    return (width, height) if turned else (height, width)


def examine(content: bytes | Unreadable) -> Facts:
    """The facts of an image, which is decoded to the last pixel."""
    return look(content)[0]


def look(
    content: bytes | Unreadable, background: str = "white"
) -> tuple[Facts, Image.Image | None]:
    """The facts of an image, and itself, upright; nothing where there is an error.

    Args:
      content: of a file, or why there is none.
      background: color behind what is transparent.
    """
    try:
        stored = _open(content)
        bits = image_modes.stored_bits(stored)
        image = _upright(stored)
        peak = image_modes.highest_level(image, bits)
    except (Unreadable, ValueError) as error:
        return Facts(0, 0, False, error=str(error)), None
    transparent = image_modes.is_transparent(image)
    facts = Facts(
        image.height,
        image.width,
        gray=image.mode in image_modes.GRAY | image_modes.DEEP_GRAY,
        peak=peak,
        format=stored.format,
        bits=bits,
        transparent=transparent,
    )
    if transparent and image.mode not in image_modes.DEEP_GRAY:
        image = image_modes.on_background(image, background)
    return facts, image


def is_gray(color: str) -> bool:
    """Whether a color, as `PIL.ImageColor` names it, is one of grays.

    Raises:
      ValueError: it is no color.
    """
    return len({*ImageColor.getrgb(color)[:3]}) == 1


def _open(content: bytes | Unreadable) -> Image.Image:
    if isinstance(content, Unreadable):
        raise content
    if not content:
        raise Unreadable("it is empty")
    try:
        decoder_messages.hush()
        image = Image.open(io.BytesIO(content), formats=[*FORMATS])
        frames = getattr(image, "n_frames", 1)
    except Image.UnidentifiedImageError:
        raise Unreadable(_unidentified(content)) from None
    except Exception as error:  # Pillow's readers raise many kinds
        raise Unreadable(first_line(error)) from None
    if frames > 1 and image.format != "MPO":  # a photograph with its previews
        raise Unreadable(f"it holds {frames} images")
    if reason := image_modes.refusal(image):
        raise Unreadable(reason)
    return image


def _unidentified(content: bytes) -> str:
    """Why Pillow knows nothing to do with some bytes."""
    for beginning, name in BEGINNINGS.items():
        if content.startswith(beginning):
            return f"it is a damaged {name}, or one of a kind that is not read"
    return f"it is no {', '.join(FORMATS)}: it begins with {content[:6]!r}"


def _upright(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's readers raise many kinds
        raise Unreadable(first_line(error)) from None
