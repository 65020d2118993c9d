"""Data sets by name, each as a training and a test split of uint8 images.

splits = load("digits")
splits.train.images.shape    # (1437, 8, 8, 1)
"""

import dataclasses
import functools

import numpy as np

__all__ = ["Split", "Splits", "load"]


@dataclasses.dataclass(frozen=True)
class Split:
    """Images uint8 `[N, H, W, C]` and labels int32 `[N]`."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set: its splits, its class names in the order of the labels, its name."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int]:
        """`(height, width)` in pixels."""
        return self.train.images.shape[1:3]

    @functools.cached_property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel of the training images, 0-255."""
        levels = np.arange(256)
        count = np.stack(
            [_histogram(self.train.images[..., c]) for c in range(self.channels)]
        )
        mean = count @ levels / count.sum(-1)
        variance = count @ levels**2 / count.sum(-1) - mean**2
        # A channel of one value would otherwise divide by zero.
        std = np.maximum(np.sqrt(np.maximum(variance, 0)), 1.0)
        return mean.astype(np.float32), std.astype(np.float32)

    @property
    def channels(self) -> int:
        return self.train.images.shape[-1]


def load(name: str, data_dir: str = "") -> Splits:
    """A data set of this project or of TFDS, prepared where it was not yet.

    Args:
      name: one of this project's builders, or any TFDS image classification set.
      data_dir: where data sets lie; empty is TFDS's default, `~/tensorflow_datasets`.

    Raises:
      UserError: the set does not exist, or cannot be prepared here; says what to do.
    """
    from hybrid_jax.data import prepared  # TFDS takes half a second to import

    builder = prepared.open_builder(name, data_dir)
    classes = prepared.class_names(builder)
    train, test = prepared.split_names(builder)
    return Splits(
        name=name,
        train=Split(*prepared.decode_split(builder, train)),
        test=Split(*prepared.decode_split(builder, test)),
        classes=classes,
    )


def _histogram(pixels: np.ndarray) -> np.ndarray:
    """How often each of 256 levels occurs, a few images at a time to save memory."""
    pieces = np.array_split(pixels, max(1, pixels.size >> 24))
    return sum(np.bincount(piece.ravel(), minlength=256) for piece in pieces)
