"""Decode the bytes of an image file to uint8 pixels in a data set's pixel format.

`FORMATS` lists the formats. Images are gray, color, palette or CMYK, of up to 16 bits a
channel. They are rotated by their EXIF orientation and composited over a background
color. All other content is refused with a reason, never guessed.
"""

import contextlib
import ctypes
import functools
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
from PIL import ExifTags, Image, ImageOps

from hybrid_jax.data import image_modes
from hybrid_jax.data.pixel_format import ImageInfo, PixelFormat, resize_and_pad
from hybrid_jax.errors import first_line

# Pillow's decoders that are used, and their suffixes. More decoders would only give
# attackers more to try.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
}
ZEROS = 64  # bytes at the end of a compressed file that nobody would have written
SUFFIXES = tuple(suffix for names in FORMATS.values() for suffix in names)
# Suffixes of image files that are not supported.
_UNSUPPORTED = (
    ".arw .cr2 .cr3 .czi .dcm .dng .eps .exr .fit .fits .fts .hdr .heic .heif .ico "
    ".icns .j2k .jp2 .jpf .jpx .jxl .lif .lsm .nd2 .ndpi .nef .nii .orf .pbm .pcx .pgm "
    ".pict .pnm .ppm .psd .qoi .raf .ras .raw .rw2 .sgi .svg .svs .tga .vsi .xbm .xpm"
)
UNSUPPORTED_SUFFIXES = frozenset(_UNSUPPORTED.split())
# First bytes of files by format.
MAGIC_BYTES = {
    **{b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP"},
    **{b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"},
}
# EXIF orientations that swap height and width.
TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)
DECODER_VERSION = 3  # increased whenever decoding gives other pixels

# Ways to resize a Pillow image of another shape to `(width, height)`.
FITS: dict[str, Callable] = {
    "crop": lambda image, size: ImageOps.fit(image, size, Image.Resampling.BICUBIC),
    "pad": lambda image, size: ImageOps.pad(image, size, Image.Resampling.BICUBIC),
    "stretch": lambda image, size: image.resize(size, Image.Resampling.BICUBIC),
}

# Patterns for the beginnings of Pillow's warnings that do not concern pixels.
IGNORED_WARNINGS = (
    "Corrupt EXIF data",
    "Image appears to be a malformed MPO file",
    "Image size .* could be decompression bomb",
    "Invalid APNG, will use default PNG image",
    "Metadata Warning",
    "Palette images with Transparency",
    "Possibly corrupt EXIF data",
    "Tag data larger than file",
    "Truncated File Read",
)


class Unreadable(Exception):
    """Error for bytes that cannot be read as an image; the message says why."""


def decode(
    content: bytes | Unreadable,
    form: PixelFormat,
    extent: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decode an image file to pixels uint8 `[H, W, C]`.

    Args:
      content: bytes of the file, or why they cannot be read.
      form: pixel format of the result.
      extent: height and width that the image fills, where images are stored whole.

    Raises:
      Unreadable: the content is no supported image; the message says why.
    """
    return decode_with_peak(content, form, extent)[0]


def decode_with_peak(
    content: bytes | Unreadable,
    form: PixelFormat,
    extent: tuple[int, int] | None = None,
) -> tuple[np.ndarray, int]:
    """Return the result of `decode`, and the highest level before; at least 255.

    Only the upper 8 bits of colors count if all 16 bits are in use.
    """
    stored = _open(content)
    bits, low_bytes = image_modes.stored_bits(stored), None
    if bits == 16 and not form.bits:
        raise Unreadable("it has 16 bits, and it is not known how many are in use")
    if bits == 16 and form.bits < 16 and stored.mode in image_modes.COLOR:
        low_bytes = _upright(image_modes.read_lower_bytes(_open(content)))
    if stored.format == "JPEG":
        # Decode a large photograph at a fraction of its size, twice what is needed.
        stored.draft(None, (2 * max(form.size), 2 * max(form.size)))
    image = _upright(stored)
    try:
        levels = image_modes.deep_levels(image, low_bytes)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if levels is None:
        return _convert(image, form, extent), 255
    bits = form.bits if bits == 16 else bits
    image_8_bit = image_modes.to_8_bits(image, levels, bits)
    return _convert(image_8_bit, form, extent), max(255, int(levels.max()))


def convert_array(
    pixels: np.ndarray, form: PixelFormat, extent: tuple[int, int] | None = None
) -> np.ndarray:
    """Convert a decoded image to a pixel format, uint8 `[H, W, C]`.

    Args:
      pixels: uint8 `[h, w, C]`.
      form: pixel format of the result.
      extent: height and width that the image fills, where images are stored whole.
    """
    gray = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if gray else pixels)
    return _convert(image, form, extent)


def _convert(
    image: Image.Image, form: PixelFormat, extent: tuple[int, int] | None
) -> np.ndarray:
    """Convert an upright 8-bit image to pixels uint8 `[H, W, C]`."""
    image = image_modes.composite(image, form.background)
    image = image.convert("L" if form.channels == 1 else "RGB")
    height, width = form.size
    if extent is not None:
        pixels = resize_and_pad(image, extent, form.size, form.fit)
    elif image.size != (width, height):
        pixels = np.asarray(FITS[form.fit](image, (width, height)))
    else:
        pixels = np.asarray(image)
    return pixels.reshape(height, width, form.channels)


def read_head(content: bytes | Unreadable) -> ImageInfo:
    """Return what a file's header says of its image, not of its levels.

    Raises:
      Unreadable: the content is no supported image; the message says why.
    """
    image = _open(content)
    width, height = image_modes.stored_size(image)
    try:
        is_transposed = (
            image.getexif().get(ExifTags.Base.Orientation, 1) in TRANSPOSED_ORIENTATIONS
        )
    except Exception as error:  # Pillow's readers raise many kinds
        raise Unreadable(first_line(error)) from None
    height, width = (width, height) if is_transposed else (height, width)
    gray, bits = image_modes.is_gray(image), image_modes.stored_bits(image)
    return ImageInfo(height, width, gray, format=image.format or "", bits=bits)


def read_info(content: bytes | Unreadable) -> ImageInfo:
    """Decode a whole image, and return its properties or why it cannot be read."""
    try:
        return _info_and_image(content)[0]
    except Unreadable as error:
        return ImageInfo(0, 0, False, error=str(error))


def read_info_and_image(
    content: bytes | Unreadable, background: str = "white"
) -> tuple[ImageInfo, Image.Image | np.ndarray | None]:
    """Return the properties of an image, and the upright image; None if unreadable.

    Colors of 16 bits are levels int64 `[H, W, 3]`, since Pillow has no such image.

    Args:
      content: bytes of a file, or why they cannot be read.
      background: color behind transparent pixels.
    """
    try:
        info, image = _info_and_image(content)
        if info.bits == 8 or image.mode in image_modes.DEEP_GRAY:
            is_shown = info.transparent and info.bits == 8
            return info, image_modes.composite(image, background) if is_shown else image
        low_bytes = _upright(image_modes.read_lower_bytes(_open(content)))
    except Unreadable as error:
        return ImageInfo(0, 0, False, error=str(error)), None
    levels = image_modes.color_levels(image, low_bytes)
    return info, image_modes.composite_levels(levels, image, background, info.peak)


def _info_and_image(content: bytes | Unreadable) -> tuple[ImageInfo, Image.Image]:
    """Return the properties of an image, and the image, upright and loaded.

    Raises:
      Unreadable: the content is no supported image; the message says why.
    """
    stored = _open(content)
    bits = image_modes.stored_bits(stored)
    image = _upright(stored)
    try:
        peak, depth = image_modes.peak_and_depth(image, bits)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    info = ImageInfo(
        image.height,
        image.width,
        gray=image_modes.is_gray(image),
        peak=peak,
        format=stored.format or "",
        bits=bits,
        transparent=image_modes.is_transparent(image),
        depth=depth,
    )
    return info, image


def _open(content: bytes | Unreadable) -> Image.Image:
    if isinstance(content, Unreadable):
        raise content
    if not content:
        raise Unreadable("it is empty")
    try:
        silence_decoders()
        image = Image.open(io.BytesIO(content), formats=[*FORMATS])
        _check_frames(image)
    except Image.UnidentifiedImageError:
        raise Unreadable(_unidentified(content)) from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise Unreadable(
            f"it has more than {most} million pixels: shrink it, or cut it up"
        ) from None
    except Unreadable:
        raise
    except Exception as error:  # Pillow's readers raise many kinds
        raise Unreadable(first_line(error)) from None
    if reason := image_modes.unsupported_reason(image) or _lost_end(image, content):
        raise Unreadable(reason)
    image_modes.widen_transparency(image)
    return image


def _lost_end(image: Image.Image, content: bytes) -> str:
    """Explain that a file ends with zeros, as an interrupted copy leaves it.

    Pillow decodes them to gray, without an error.
    """
    written = content.rstrip(b"\0")
    zeros = len(content) - len(written)
    is_whole = image.format in ("JPEG", "MPO") and written.endswith(b"\xff\xd9")
    if image.format not in ("JPEG", "MPO", "WEBP", "AVIF") or zeros < ZEROS or is_whole:
        return ""
    return f"its last {zeros:,} bytes are zeros: copy or download it again"


def _check_frames(image: Image.Image) -> None:
    """Refuse an opened file of several images.

    Raises:
      Unreadable: it has several.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a photograph with previews
        raise Unreadable(f"it holds {frames} images")


def _unidentified(content: bytes) -> str:
    """Return why Pillow cannot identify the content."""
    for beginning, name in MAGIC_BYTES.items():
        if content.startswith(beginning):
            return f"it is a damaged {name}, or one of a kind that is not read"
    text = content[:6].decode("latin-1")
    return f"it is no {', '.join(FORMATS)}: it begins with {text!r}"


def _upright(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return ImageOps.exif_transpose(image_modes.undo_premultiplication(image))
    except Exception as error:  # Pillow's readers raise many kinds
        raise Unreadable(first_line(error)) from None


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 pixels `[H, W]`, `[H, W, 1]` or `[H, W, 3]` as PNG."""
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def encode_image(image: Image.Image) -> bytes | Unreadable:
    """Return the bytes of a file of an image, or why there are none.

    It is the image's own file if that is open and no pixel was read, so that it can be
    decoded at a fraction of its size or in 16 bits.

    Args:
      image: of any mode; it is left as it is, but may be loaded.
    """
    if (content := _unread_content(image)) is not None:
        return content
    buffer = io.BytesIO()
    try:
        _check_frames(image)
        image = _upright(image)
        known = {"transparency": image.info.get("transparency")}
        image.info = {name: v for name, v in known.items() if v is not None}
        # TIFF has all modes, but no transparent colors.
        kind = "PNG" if image.info or image.mode == "P" else "TIFF"
        image.save(buffer, format=kind, compress_level=1)
    except Unreadable as error:
        return error
    except (KeyError, OSError, ValueError):
        return Unreadable(f"its pixels are {image.mode}: take image.convert('RGB')")
    return buffer.getvalue()


def _unread_content(image: Image.Image) -> bytes | None:
    """Return the bytes of an image's file if it is open and no pixel was read."""
    file = getattr(image, "fp", None)
    if not (file and getattr(image, "tile", ()) and image.format in FORMATS):
        return None
    place = file.tell()
    file.seek(0)
    content: bytes = file.read()
    file.seek(place)
    return content


@functools.cache
def silence_decoders() -> None:
    """Silence warnings of Pillow and libtiff that do not concern pixels.

    Only the libtiff inside Pillow's wheels is silenced; another one keeps printing.
    """
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message, module=r"PIL\.")
    packages = Path(PIL.__file__).parents[1]
    patterns = ("pillow.libs/libtiff*", "PIL/.dylibs/libtiff*")
    for path in (path for pattern in patterns for path in packages.glob(pattern)):
        with contextlib.suppress(OSError, AttributeError):
            _silence_libtiff(ctypes.CDLL(str(path)))


def _silence_libtiff(library: ctypes.CDLL) -> None:
    for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
        set_handler = getattr(library, name)
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)
