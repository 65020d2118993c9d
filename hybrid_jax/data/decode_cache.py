"""Decoded pixels, kept on disk so that a later run maps them instead of decoding."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from hybrid_jax.data.lazy_images import Encoded, decode_into
from hybrid_jax.errors import UserError

FILE = "images.npy"


def decoded(encoded: Encoded, folder: Path, title: str) -> np.ndarray:
    """All pixels of a split, uint8 `[N, H, W, C]`, from `folder` or decoded into it.

    A disk that is full or read-only costs a decoding a run, and nothing else.

    Raises:
      UserError: what the folder holds is damaged, or an image cannot be read.
    """
    if not folder.is_dir():
        try:
            _decode_to(folder, encoded, title)
        except OSError:
            images = np.empty(encoded.shape, np.uint8)
            decode_into(images, encoded, title)
            return images
    try:
        images = np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
        if images.shape != encoded.shape or images.dtype != np.uint8:
            raise ValueError(f"{images.dtype} {images.shape} for {encoded.shape}")
        return images
    except FileNotFoundError:  # another run deleted it
        images = np.empty(encoded.shape, np.uint8)
        decode_into(images, encoded, title)
        return images
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): delete it") from None


def _decode_to(folder: Path, encoded: Encoded, title: str) -> None:
    """Writes so that the folder exists whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".decoding-"))
    try:
        # Room is taken before it is written to: a full disk would kill a mapped write.
        size = int(np.prod(encoded.shape))
        if shutil.disk_usage(scratch).free < size + 2**20:
            raise OSError("no space left")
        images = np.lib.format.open_memmap(
            scratch / FILE, mode="w+", dtype=np.uint8, shape=encoded.shape
        )
        decode_into(images, encoded, title)
        images.flush()
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
