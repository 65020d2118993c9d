"""Small image files of real digits, for tests of a user's own folder."""

import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from hybrid_jax.config.schema import DataConfig

scans = functools.cache(load_digits)  # it reads a table of text


def digit(row: int, size: int = 24) -> Image.Image:
    """A gray scan, enlarged."""
    levels = (scans().images[row] * 15).astype(np.uint8)
    return Image.fromarray(levels).resize((size, size), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, row: int, size: int = 24, **options) -> Path:
    """One digit as a file, of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digit(row, size).save(path, **options)
    return path


def write_folder(place: Path, each: int = 6, classes: int = 3) -> Path:
    """`place/<class>/<row>.png`, some images of each of the first classes."""
    labels = scans().target
    for label in range(classes):
        for row in np.flatnonzero(labels == label)[:each]:
            write(place / f"digit {label}" / f"{row}.png", row)
    return place


def folder_config(path, test_fraction=0.2, split_seed=0, **options) -> DataConfig:
    """A config of the images at a path."""
    return DataConfig(
        "folder",
        path=str(path),
        test_fraction=test_fraction,
        split_seed=split_seed,
        **options,
    )
