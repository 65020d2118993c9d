"""Augment a few images of a split as training does, to show them."""

import jax
import numpy as np

from hybrid_jax.augment import augment
from hybrid_jax.config.schema import Config
from hybrid_jax.data import Split
from hybrid_jax.programs.compile import Program, compiler_threads
from hybrid_jax.runtime import jit_once

IMAGES_SHOWN = 64


def augmented_rows(
    config: Config, train: Split, rows: np.ndarray, size: tuple[int, int], classes: int
) -> np.ndarray:
    """Return augmented training images, float32 `[n, H, W, C]` with values 0 to 255.

    Args:
      config: config of the run, whose seed is used.
      train: the training split.
      rows: indices of its images, which may repeat.
      size: height and width that the network sees.
      classes: number of classes.
    """

    def augmented(
        seed: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        extents: jax.Array | None = None,
    ) -> jax.Array:
        key, shares = jax.random.key(seed), jax.nn.one_hot(labels, classes)
        fit = config.data.fit
        return augment(key, images, shares, config.augment, size, extents, fit)[0]

    key = "augmentation", config.augment, size, config.data.fit, classes
    arrays = train.images, *train.per_image_arrays
    given = np.int32(config.seed), *(np.asarray(array[rows]) for array in arrays)
    with compiler_threads() as threads:
        program = Program(jit_once(augmented).trace, *given, key=key).compile(threads)
        return np.asarray(program(*given))
