"""Fingerprints of images, small enough for all to stay in memory."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

THUMBNAIL = 32  # pixels a side, gray
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue, as Pillow makes gray


class Fingerprints(NamedTuple):
    """Fingerprints of N images.

    Attributes:
      pixels: uint64 `[N]`, hash of all decoded pixels.
      thumbnails: float16 `[N, THUMBNAIL, THUMBNAIL]`, gray without its mean, in levels
        of 0 to 255.
      contrast: float32 `[N]`, standard deviation of a thumbnail, in these levels.
    """

    pixels: np.ndarray
    thumbnails: np.ndarray
    contrast: np.ndarray


def compute_fingerprints(
    images: Sequence[Image.Image | np.ndarray | None],
) -> Fingerprints:
    """Compute fingerprints of upright images, as `read_info_and_image` returns them.

    Those of None are zeros.
    """
    pixels = np.zeros(len(images), np.uint64)
    thumbnails = np.zeros((len(images), THUMBNAIL, THUMBNAIL), np.float32)
    for i, image in enumerate(images):
        if image is not None:
            pixels[i] = _digest(image)
            thumbnails[i] = _thumbnail(image)
    thumbnails -= thumbnails.mean((1, 2), keepdims=True)
    contrast = thumbnails.std((1, 2))
    return Fingerprints(pixels, thumbnails.astype(np.float16), contrast)


def _thumbnail(image: Image.Image | np.ndarray) -> np.ndarray:
    """Return gray levels of 0 to 255, float32 `[THUMBNAIL, THUMBNAIL]`.

    They are not rounded, since rounding would hide the content of a faint image.
    """
    if isinstance(image, np.ndarray):
        gray = Image.fromarray((image @ LUMINANCE).astype(np.float32))
    else:
        gray = image.convert("I" if _is_deep(image) else "L").convert("F")
    small = gray.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    levels = np.asarray(small) / 256 if _is_deep(image) else np.asarray(small)
    return levels.clip(0, 255)  # bicubic edges overshoot


def _digest(image: Image.Image | np.ndarray) -> int:
    """Hash the size and the pixels, whatever the file's format and metadata are."""
    if not isinstance(image, np.ndarray):
        image = np.asarray(image if _is_deep(image) else image.convert("RGB"))
    if image.dtype == np.uint8:
        levels = image
    else:  # colors that are all gray equal a gray image
        is_gray = image.ndim == 3 and (image == image[..., :1]).all()
        levels = (image[..., 0] if is_gray else image).astype(np.int32)
    digest = hashlib.blake2b(repr(levels.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(levels).data)
    return int.from_bytes(digest.digest(), "little")


def _is_deep(image: Image.Image | np.ndarray) -> bool:
    """Return whether an image has levels of more than 8 bits."""
    return isinstance(image, np.ndarray) or image.mode.startswith("I")
