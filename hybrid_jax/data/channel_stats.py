"""Mean and standard deviation of a data set's channels, to normalize images."""

import math
import typing

import numpy as np

if typing.TYPE_CHECKING:
    from hybrid_jax.data.lazy_images import LazyImages

# Limits of the sample; the mean of thousands of images is accurate to about one level.
MAX_IMAGES, MAX_BYTES = 4096, 1 << 28


def channel_statistics(
    images: "np.ndarray | LazyImages", title: str, extents: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each channel, levels 0 to 255.

    If there are many images, an evenly spaced sample is used; every loader uses the
    same one.

    Args:
      images: uint8 `[N, H, W, C]`.
      title: name of the images in a progress bar.
      extents: `[N, 2]`, height and width that each image fills; None if all do.

    Returns:
      float32 `[C]` each.
    """
    max_count = min(MAX_IMAGES, MAX_BYTES // math.prod(images.shape[1:]))
    count = min(len(images), max(max_count, 64))
    rows = np.linspace(0, len(images) - 1, count).astype(int)
    sample = _sample(images, rows, title)
    if extents is None:
        counts = _histograms(sample)
    else:
        pairs = zip(sample, extents[rows], strict=True)
        visible = [image[None, :h, :w] for image, (h, w) in pairs]
        counts = np.sum([_histograms(image) for image in visible], 0)
    levels = np.arange(256)
    mean = counts @ levels / counts.sum(-1)
    variance = counts @ levels**2 / counts.sum(-1) - mean**2
    # A constant channel would otherwise cause a division by zero.
    std = np.maximum(np.sqrt(np.maximum(variance, 0)), 1.0)
    return mean.astype(np.float32), std.astype(np.float32)


def _sample(
    images: "np.ndarray | LazyImages", rows: np.ndarray, title: str
) -> np.ndarray:
    """Return some of the images, decoding them on all cores where needed."""
    if isinstance(images, np.ndarray):
        return images[rows]
    return images.take(rows).decode_all(f"{title}, for mean and deviation")


def _histograms(images: np.ndarray) -> np.ndarray:
    """Count each of 256 levels in each channel, `[C, 256]`."""
    channels = np.moveaxis(images, -1, 0)
    # Count a few images at a time, since counting needs eight bytes a pixel.
    blocks = max(1, images.size >> 24)
    return np.stack(
        [
            sum(
                np.bincount(block.ravel(), minlength=256)
                for block in np.array_split(channel, blocks)
            )
            for channel in channels
        ]
    )
