"""The pixel format of a data set: size, channels and depth of all its images.

Images of several shapes are stored whole, in the upper left corner of arrays of one
size, so that random crops may take any part of them. The rest of an array repeats the
last pixels. The device cuts out what the network sees: a cropped, padded or stretched
image (`augment.affine.CROP_BOXES`).
"""

import collections
import dataclasses
import typing
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps

from hybrid_jax.config.schema import FIELDS
from hybrid_jax.errors import UserError, listed, plural

CANVAS_SCALE = 2  # largest side of a stored array, relative to the network's input


def _keeps_size(stored: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether images of one size keep it, for a network's input of `size`."""
    (h, w), (height, width) = stored, size
    return h * width == w * height and h <= 2 * height


class ImageInfo(NamedTuple):
    """Properties of one image.

    Attributes:
      height, width: in pixels, upright.
      gray: whether it is gray.
      peak: its highest level, at least 255.
      error: why the image cannot be read; empty if it can.
      format: Pillow's name of the format; empty if it was not read.
      bits: bits of a level in the file: 8, 12 or 16.
      transparent: whether any pixel is transparent.
      depth: bits that its levels need but for a few, at least 8; see
        `image_modes.peak_and_depth`.
    """

    height: int
    width: int
    gray: bool
    peak: int = 255
    error: str = ""
    format: str = ""
    bits: int = 8
    transparent: bool = False
    depth: int = 8


@dataclasses.dataclass(frozen=True)
class PixelFormat:
    """The format that all images of a data set are converted to.

    Attributes:
      size: `(height, width)`.
      channels: 1 or 3.
      bits: bits in use of 16-bit images; 0 if unknown.
      fit: row of `FITS`, for images of another size.
      background: color behind transparent pixels.
      target: `(height, width)` of the network's input, where images are stored whole;
        None where they fill the size.
    """

    size: tuple[int, int]
    channels: int
    bits: int = 16
    fit: str = "crop"
    background: str = "white"
    target: tuple[int, int] | None = None

    @property
    def cache_key(self) -> str:
        """Text that identifies the format in caches; changing it invalidates them."""
        values = (f"{name}={value!r}" for name, value in vars(self).items())
        return f"Form({', '.join(values)})"

    def to_json(self) -> dict[str, typing.Any]:
        """Return the fields as JSON values, with lists for tuples."""
        values = dataclasses.asdict(self)
        return {n: [*v] if isinstance(v, tuple) else v for n, v in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, typing.Any]) -> "PixelFormat":
        """Create a pixel format from the result of `to_json`, which may be damaged.

        Raises:
          TypeError, ValueError: a field is missing, unknown, or has a wrong value.
        """
        tuples = {n: tuple(v) for n, v in values.items() if isinstance(v, list)}
        form = cls(**values | tuples)
        for name, holds in STORED.items():
            if not holds(value := getattr(form, name)):
                raise ValueError(f"{name} is {value!r}")
        return form


def _is_size(value: object) -> bool:
    """Return whether a value is a tuple of height and width, at least 1."""
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(type(side) is int and side > 0 for side in value)
    )


# What a stored field may be.
STORED: dict[str, typing.Callable[[typing.Any], bool]] = {
    "size": _is_size,
    "channels": lambda value: type(value) is int and value in (1, 3),
    "bits": lambda value: type(value) is int and (value == 0 or 8 <= value <= 16),
    "fit": FIELDS["data.fit"].rule.holds,
    "background": FIELDS["data.background"].rule.holds,
    "target": lambda value: value is None or _is_size(value),
}

# Quantile of the 16-bit images' highest levels that sets the depth, unless an image has
# more than a few levels above: one broken pixel of a camera must not darken all images.
DEPTH_QUANTILE = 0.9


def stored_extents(sizes: np.ndarray, target: tuple[int, int], fit: str) -> np.ndarray:
    """Return height and width of images as stored, at least 1 and never enlarged.

    Extents are at most `CANVAS_SCALE` times the target. An image to be cropped keeps at
    least the target's height and width, if it has them; the ends of a very long image
    are left out.

    Args:
      sizes: `[N, 2]`, height and width of the images in their files.
      target: `(height, width)` of the network's input.
      fit: row of `image_io.FITS`.

    Returns:
      int32 `[N, 2]`.
    """
    most, sizes = CANVAS_SCALE * np.array(target), np.maximum(sizes, 1)
    scales = np.minimum(most / sizes, 1)
    if fit != "stretch":
        scales = scales.min(-1, keepdims=True)
    if fit == "crop":
        least = np.minimum((target / sizes).max(-1, keepdims=True), 1)
        scales = np.maximum(scales, least)
    scaled = np.minimum(np.rint(sizes * scales), most)
    return np.maximum(scaled, 1).astype(np.int32)


def are_cropped(sizes: np.ndarray, extents: np.ndarray) -> np.ndarray:
    """Return which images lose more than a twentieth of their longer side, bool `[N]`.

    Args:
      sizes: height and width of the images in their files, `[N, 2]`.
      extents: result of `stored_extents` for a crop.
    """
    scales = extents / np.maximum(sizes, 1)
    return scales.min(-1) < 0.95 * scales.max(-1) - 1 / extents.min(-1)


def resize_and_pad(
    image: Image.Image, extent: tuple[int, int], size: tuple[int, int], fit: str
) -> np.ndarray:
    """Resize an image into the upper left corner of an array; repeat its last pixels.

    Args:
      image: gray or RGB.
      extent: height and width that the image fills.
      size: `(H, W)` of the array.
      fit: row of `image_io.FITS`.

    Returns:
      uint8 `[H, W]` or `[H, W, 3]`.
    """
    height, width = map(int, extent)
    if image.size != (width, height):
        resize = Image.Image.resize if fit == "stretch" else ImageOps.fit
        image = resize(image, (width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    missing = [(0, size[0] - height), (0, size[1] - width)]
    return np.pad(pixels, [*missing, *[(0, 0)] * (pixels.ndim - 2)], mode="edge")


def is_gray(color: str) -> bool:
    """Return whether a color, as `PIL.ImageColor` names it, is gray.

    Raises:
      ValueError: `color` names no color.
    """
    return len({*ImageColor.getrgb(color)[:3]}) == 1


def choose_pixel_format(
    infos: list[ImageInfo],
    image_size: tuple[int, ...],
    fit: str,
    background: str,
    title: str,
) -> PixelFormat:
    """Choose the pixel format of a data set from its readable images.

    Images of one size keep it if the network's input has their aspect ratio and at
    least half their side. Other images are stored whole, in arrays of up to twice the
    input's sides.

    Args:
      infos: properties of the readable images.
      image_size: `(height, width)` of the network's input; empty for the images' own.
      fit: row of `image_io.FITS`, for images of another size.
      background: color behind transparent pixels.
      title: name of the data set in errors.

    Raises:
      UserError: there is no image, or several sizes and no `image_size`.
    """
    if not infos:
        raise UserError(f"{title} has no image that can be read")
    sizes = collections.Counter((f.height, f.width) for f in infos)
    first = next(iter(sizes))
    if len(sizes) > 1 and not image_size:
        (h, w), (tall, wide) = min(sizes), max(sizes)
        raise UserError(
            f"{title} has images of {len(sizes)} sizes, from {h}x{w} to {tall}x{wide}: "
            "choose one, such as --config.data.image_size=64,64"
        )
    height, width = image_size or first
    size, target = (height, width), None
    if len(sizes) > 1 or not _keeps_size(first, size):
        extents = stored_extents(np.array([*sizes]), size, fit)
        tall, wide = extents.max(0).tolist()
        first = tall, wide
        all_fill = (extents == first).all() and _keeps_size(first, size)
        target = None if all_fill else size
    tinted = any(f.transparent for f in infos) and not is_gray(background)
    return PixelFormat(
        size=first,
        channels=1 if all(f.gray for f in infos) and not tinted else 3,
        bits=_bit_depth(infos),
        fit=fit,
        background=background,
        target=target,
    )


def depth_notes(names: Sequence[str], infos: Sequence[ImageInfo]) -> tuple[str, ...]:
    """Return notes on the few images that set the depth of 16-bit images or exceed it.

    Args:
      names: names of the readable images of a data set.
      infos: their properties.
    """
    usual, bits, notes = _usual_depth(infos), _bit_depth(infos), []
    deep = [row for row, info in enumerate(infos) if info.bits == 16]
    deeper = [names[row] for row in deep if infos[row].depth > usual]
    clipped = [names[row] for row in deep if is_clipped(infos[row], bits)]
    if deeper:
        has = "has" if len(deeper) == 1 else "have"
        notes.append(
            f"{len(deeper):,} of {len(deep):,} images of 16 bits {has} levels above "
            f"{(1 << usual) - 1}, unlike most: the levels of all are divided by "
            f"{1 << bits - 8} instead of {1 << usual - 8}; leave out those that "
            f"are broken: {listed(deeper)}"
        )
    if clipped:
        count = plural(len(clipped), "image")
        notes.append(f"{count} {clipped_text(bits)}: {listed(clipped)}")
    return tuple(notes)


def is_clipped(info: ImageInfo, bits: int) -> bool:
    """Return whether a 16-bit image has levels of more bits than are in use."""
    return info.bits == 16 and info.peak >= 1 << bits


def clipped_text(bits: int) -> str:
    """Return what happens to levels of more bits than are in use, in words."""
    return f"of 16 bits with levels above {(1 << bits) - 1}, which become white"


def _bit_depth(infos: Sequence[ImageInfo]) -> int:
    """Return the bits in use of 16-bit images, 8 to 16; 16 if there are none."""
    return max([_usual_depth(infos), *(f.depth for f in infos if f.bits == 16)])


def _usual_depth(infos: Sequence[ImageInfo]) -> int:
    """Return the bits that the highest levels of most 16-bit images need, 8 to 16."""
    peaks = [info.peak for info in infos if info.bits == 16]
    if not peaks:
        return 16
    return max(8, int(np.quantile(peaks, DEPTH_QUANTILE)).bit_length())
