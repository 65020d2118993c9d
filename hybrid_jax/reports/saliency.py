"""Which pixels an answer is sensitive to, drawn over the image.

Source: Simonyan et al. 2014, Deep inside convolutional networks.

Shapes: N images of height H, width W and C channels, as the network sees them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.augment import normalize, to_float
from hybrid_jax.data import Split
from hybrid_jax.engine.run import Run
from hybrid_jax.runtime import jit_once
from hybrid_jax.training.losses import LOSSES
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.step import Network

MARK = np.array([255.0, 120.0, 0.0])  # red, green, blue of sensitive pixels
MOST = 99  # percentile of an image's sensitivities that has the whole color
FADED = 0.6  # share of the image's own brightness that stays


def overlays(run: Run, split: Split, rows: np.ndarray) -> np.ndarray:
    """Draw the sensitivity of the likeliest class over images, uint8 `[N, H, W, 3]`.

    Args:
      run: whose answers they are.
      split: the images.
      rows: numbers of those to draw.

    Raises:
      UserError: an image cannot be read.
    """
    extents = None if split.extents is None else split.extents[rows]
    return draw(*slopes(run, np.asarray(split.images[rows]), extents))


def slopes(
    run: Run, images: np.ndarray, extents: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return images as the network sees them `[N, H, W, C]`, and the slopes there.

    Those are derivatives of the log probability of the likeliest class.

    Args:
      run: whose network it is.
      images: uint8 `[N, h, w, C]`, in the run's form.
      extents: `[N, 2]`, height and width that each image fills; None if all do.
    """
    found = _program()(run.network, unpack(run.variables), images, extents)
    levels, slopes = map(np.asarray, found)
    return levels, slopes


def _slopes(
    network: Network, variables: Any, images: jax.Array, extents: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    levels = to_float(images, network.image_size, extents, network.fit)
    loss = LOSSES[network.loss.name]

    def score(levels: jax.Array) -> jax.Array:
        normalized = normalize(levels, network.mean, network.std)
        logits = network.model.apply(variables, normalized)
        return loss.log_probabilities(logits).max(-1).sum()  # type: ignore[arg-type]

    return levels, jax.grad(score)(levels).astype(jnp.float32)


def draw(levels: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Draw sizes of slopes over faded images, uint8 `[N, H, W, 3]`.

    Args:
      levels: images `[N, H, W, C]`, 0 to 255.
      slopes: `[N, H, W, C]`; the steepest channel counts. The scale is each image's.
    """
    size = np.abs(slopes).max(-1, keepdims=True)
    most = np.percentile(size, MOST, axis=(1, 2, 3), keepdims=True)
    return paint(levels, size / np.maximum(most, np.finfo(np.float32).tiny), MARK)


def paint(levels: np.ndarray, share: np.ndarray, mark: np.ndarray) -> np.ndarray:
    """Mix a color into faded gray images, uint8 `[N, H, W, 3]`.

    Args:
      levels: images `[N, H, W, C]`, 0 to 255.
      share: of the color, `[N, H, W, 1]`; below 0 there is none, and above 1 no more.
      mark: red, green and blue of the color.
    """
    share = np.clip(share, 0, 1)
    gray = FADED * levels.mean(-1, keepdims=True)
    mixed = (1 - share) * gray + share * mark
    return np.clip(mixed, 0, 255).astype(np.uint8)


@functools.cache
def _program() -> Any:
    """Return `_slopes` compiled, so that images of one shape share a program."""
    return jit_once(_slopes)
