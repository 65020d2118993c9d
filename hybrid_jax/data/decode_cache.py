"""Caches on disk: decoded pixels, and properties of scanned images.

A later run maps the pixels into memory instead of decoding, and scans only changed
images.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL

from hybrid_jax.data.image_io import DECODER_VERSION
from hybrid_jax.data.lazy_images import LazyImages
from hybrid_jax.errors import UserError
from hybrid_jax.paths import replacing

FILE = "images.npy"
SCRATCH = ".decoding-"  # begins the names of folders that are being written
ABANDONED_SECONDS = 3600.0  # without a write
MAX_OLD_CACHES = 3  # caches of other sizes, seeds or shares; older ones are deleted


def decoded(
    encoded: LazyImages, place: Path, split: str, key: str, title: str
) -> np.ndarray:
    """Return all pixels of a split, uint8 `[N, H, W, C]`, decoded once to a folder.

    Where the disk is full or read-only, each run decodes the images again.

    Args:
      encoded: the images.
      place: where the folder lies, beside those of other sizes and splits.
      split: name of the split.
      key: stands for the files, their decoder, and how they are decoded.
      title: title of the progress bar.

    Raises:
      UserError: the cache is damaged, or an image cannot be read.
    """
    shape = "x".join(map(str, encoded.shape[1:]))
    folder = place / f"decoded-{split}-{shape}-{key}"
    _remove_old(place.glob(f"decoded-{split}-*"), folder)
    if not folder.is_dir():
        try:
            _decode_to(folder, encoded, title)
        except OSError:
            if not folder.is_dir():  # else another run was faster
                return encoded.decode_all(title)
    try:
        images = np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
        if images.shape != encoded.shape or images.dtype != np.uint8:
            raise ValueError(f"{images.dtype} {images.shape} for {encoded.shape}")
        return images
    except (FileNotFoundError, PermissionError):  # another run, or user, has it
        return encoded.decode_all(title)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): delete it") from None


def _decode_to(folder: Path, encoded: LazyImages, title: str) -> None:
    """Decode all images to a folder, which is written completely or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=SCRATCH))
    try:
        # Check the space first: a full disk would kill a write to mapped memory.
        size = int(np.prod(encoded.shape))
        if shutil.disk_usage(scratch).free < size + 2**20:
            raise OSError("no space left")
        images = np.lib.format.open_memmap(
            scratch / FILE, mode="w+", dtype=np.uint8, shape=encoded.shape
        )
        encoded.decode_all(title, out=images)
        images.flush()
        # Temporary folders are closed to other users, who may share this one.
        scratch.chmod(folder.parent.stat().st_mode & 0o777)
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _remove_old(caches: Iterable[Path], folder: Path) -> None:
    """Remove all caches but the folder's and the newest others."""
    others = sorted({*caches} - {folder}, key=_age)
    for old in others[MAX_OLD_CACHES:]:
        shutil.rmtree(old, ignore_errors=True)


def _age(folder: Path) -> float:
    try:
        return -folder.stat().st_mtime
    except OSError:  # another run deleted it
        return 0.0


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes have left, which may be as large as all pixels."""
    for scratch in folder.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            written = max(
                path.stat().st_mtime for path in (scratch, *scratch.iterdir())
            )
            if time.time() - written > ABANDONED_SECONDS:
                shutil.rmtree(scratch)


# Version of the decoders; other versions may give other pixels.
READER_VERSION = f"{PIL.__version__} {DECODER_VERSION}"


def read_cache(file: Path, length: int) -> dict[str, list]:
    """Return the rows of a file by name.

    Args:
      file: JSON file of rows; a missing or damaged file has none.
      length: length of a row; rows of other lengths, from other versions, are ignored.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {name: row for name, row in content.items() if len(row) == length}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write_cache(file: Path, rows: dict[str, list]) -> None:
    """Write all rows to a file or none; ignore a disk that cannot be written to."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as scratch:
            scratch.write_text(json.dumps(rows), encoding="utf-8")
