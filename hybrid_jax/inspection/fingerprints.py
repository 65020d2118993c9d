"""Fingerprints of images, small enough for all to stay in memory."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

THUMBNAIL = 32  # pixels a side, gray


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


def compute_fingerprints(images: Sequence[Image.Image | None]) -> Fingerprints:
    """Compute fingerprints of upright images; zeros for None."""
    pixels = np.zeros(len(images), np.uint64)
    thumbnails = np.zeros((len(images), THUMBNAIL, THUMBNAIL), np.float32)
    for i, image in enumerate(images):
        if image is not None:
            pixels[i] = _digest(image)
            thumbnails[i] = _thumbnail(image)
    thumbnails -= thumbnails.mean((1, 2), keepdims=True)
    contrast = thumbnails.std((1, 2))
    return Fingerprints(pixels, thumbnails.astype(np.float16), contrast)


def _thumbnail(image: Image.Image) -> np.ndarray:
    """Return gray levels of 0 to 255, float32 `[THUMBNAIL, THUMBNAIL]`.

    They are not rounded, since rounding would hide the content of a faint image.
    """
    is_deep = image.mode.startswith("I")
    gray = image.convert("I") if is_deep else image.convert("L")
    size = THUMBNAIL, THUMBNAIL
    small = gray.convert("F").resize(size, Image.Resampling.BICUBIC)
    levels = np.asarray(small) / 256 if is_deep else np.asarray(small)
    return levels.clip(0, 255)  # bicubic edges overshoot


def _digest(image: Image.Image) -> int:
    """Hash the size and the pixels, whatever the file's format and metadata are."""
    if image.mode.startswith("I"):  # 16-bit gray
        levels = np.asarray(image).astype(np.int32)
    else:
        levels = np.asarray(image.convert("RGB"))
    digest = hashlib.blake2b(repr(levels.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(levels).data)
    return int.from_bytes(digest.digest(), "little")
