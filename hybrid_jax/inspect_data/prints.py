"""Fingerprints of images, small enough to keep those of all."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image
from scipy.fft import dctn

THUMBNAIL = 32  # pixels a side, gray
WAVES = 16  # a side, of the thumbnail's cosine transform


class Prints(NamedTuple):
    """Fingerprints of images.

    Attributes:
      pixels: uint64 `[N]`, of all decoded pixels.
      looks: uint64 `[N]`, ImageHash's `phash`.
      waves: float32 `[N, WAVES, WAVES]`, the lowest frequencies of the gray thumbnail,
        orthonormal, in levels of 0 to 255 a thumbnail's pixel.
    """

    pixels: np.ndarray
    looks: np.ndarray
    waves: np.ndarray


def take_prints(images: Sequence[Image.Image | None]) -> Prints:
    """The fingerprints of images that stand upright; zeros of what is none."""
    pixels = np.zeros(len(images), np.uint64)
    alike = np.zeros(len(images), np.uint64)
    thumbnails = np.zeros((len(images), THUMBNAIL, THUMBNAIL), np.float32)
    for i, image in enumerate(images):
        if image is None:
            continue
        pixels[i] = _digest(image)
        thumbnails[i] = _thumbnail(image)
        bits = imagehash.phash(_stretched(thumbnails[i])).hash
        alike[i] = np.packbits(bits).view(np.uint64)[0]
    waves = dctn(thumbnails, axes=(1, 2), norm="ortho")[:, :WAVES, :WAVES]
    return Prints(pixels, alike, waves.copy())


def _thumbnail(image: Image.Image) -> np.ndarray:
    """Gray levels of 0 to 255, float32 `[THUMBNAIL, THUMBNAIL]`.

    Not rounded: rounding alone would hide what a faint image shows.
    """
    is_deep = image.mode.startswith("I")
    gray = image.convert("I") if is_deep else image.convert("L")
    size = THUMBNAIL, THUMBNAIL
    small = gray.convert("F").resize(size, Image.Resampling.BICUBIC)
    levels = np.asarray(small) / 256 if is_deep else np.asarray(small)
    return levels.clip(0, 255)  # as other programs do where edges overshoot


def _stretched(thumbnail: np.ndarray) -> Image.Image:
    """A thumbnail over all of 8 bits, since ImageHash rounds."""
    levels = thumbnail - thumbnail.min()
    levels *= 255 / max(float(levels.max()), 1e-9)
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def _digest(image: Image.Image) -> int:
    """Of the size and the pixels, whatever the file's format and metadata are."""
    if image.mode.startswith("I"):  # 16 bits, which no color has here
        levels = np.asarray(image).astype(np.int32)
    else:
        levels = np.asarray(image.convert("RGB"))
    digest = hashlib.blake2b(repr(levels.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(levels))
    return int.from_bytes(digest.digest(), "little")
