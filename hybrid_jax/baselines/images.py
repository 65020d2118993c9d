"""Shrink the images of a split to one small float array for classic methods."""

import jax
import numpy as np

from hybrid_jax.augment import to_float
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import Split, Splits
from hybrid_jax.data.lazy_images import parallel_map

LONGEST_SIDE = 32  # pixels; larger images take more time and help these methods little
BLOCK = 256


def feature_size(splits: Splits, config: DataConfig) -> tuple[int, int]:
    """Return the `(height, width)` to shrink images to: at most 32 px on each side.

    Images are not enlarged, whatever `config.data.image_size` is.
    """
    height, width = splits.image_size
    if splits.train.extents is not None:  # stored arrays are larger than their images
        height, width = config.image_size
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def shrink_images(
    split: Split, size: tuple[int, int], config: DataConfig, title: str
) -> np.ndarray:
    """Return all images of a split, float32 `[N, h, w, C]` from 0 to 255.

    Args:
      split: split of the data set.
      size: `(h, w)` to shrink to.
      config: config of the data set; its `fit` is for images of another aspect ratio.
      title: name of the split in the progress bar.

    Raises:
      UserError: names an image that cannot be read.
    """
    if split.resident and split.shape[1:3] == size and split.extents is None:
        return np.asarray(split.images, np.float32)
    images = np.empty((len(split), *size, split.shape[-1]), np.float32)
    shrink = jax.jit(to_float, static_argnums=(1, 3))

    def fill(rows: slice) -> None:
        extents = None if split.extents is None else split.extents[rows]
        images[rows] = shrink(split.images[rows], size, extents, config.fit)

    for _ in parallel_map(fill, len(split), f"shrinking {title}", BLOCK):
        pass
    return images
