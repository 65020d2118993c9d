"""Which pixels an answer is sensitive to, and where attention looks, drawn over images.

Sources: Simonyan et al. 2014, Deep inside convolutional networks; and
`hybrid_jax.models.rollout`.

Shapes: N images of height H, width W and C channels, as the network sees them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.augment import normalize, to_float
from hybrid_jax.data import Split
from hybrid_jax.engine.run import Run
from hybrid_jax.models.rollout import attention_rollout
from hybrid_jax.runtime import jit_once
from hybrid_jax.training.losses import LOSSES
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.step import Network

SENSITIVE = np.array([255.0, 120.0, 0.0])  # red, green, blue of sensitive pixels
LOOKED_AT = np.array([60.0, 160.0, 255.0])  # and of those that attention looks at
MOST = 99  # percentile of an image's sensitivities that gets the full color
LEAST = 2.0  # multiple of an even share that gets the full color if none is larger
FADED = 0.6  # share of the image's own brightness that stays


class Seen(NamedTuple):
    """Images, and what a network's answers to them depend on.

    Attributes:
      levels: the images, `[N, H, W, C]`, 0 to 255.
      slopes: derivatives of the likeliest class's log probability, `[N, H, W, C]`.
      looks: share of attention of each pixel, `[N, H, W]`; None without attention over
        a map.
    """

    levels: np.ndarray
    slopes: np.ndarray
    looks: np.ndarray | None


def overlays(run: Run, split: Split, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Draw sensitivity, and attention where the network has it, over images.

    Args:
      run: the run whose network is shown.
      split: the images.
      rows: numbers of the images to draw.

    Returns:
      Pictures, uint8 `[N, H, W, 3]`, by what they show, in words with `{}` in the place
      of the likeliest class.

    Raises:
      UserError: an image cannot be read.
    """
    extents = None if split.extents is None else split.extents[rows]
    seen = look(run, np.asarray(split.images[rows]), extents)
    slopes = draw_slopes(seen.levels, seen.slopes)
    drawn = {"Pixels that {} is sensitive to": slopes}
    if seen.looks is not None:
        drawn["Where attention looks for {}"] = draw_looks(seen.levels, seen.looks)
    return drawn


def look(run: Run, images: np.ndarray, extents: np.ndarray | None = None) -> Seen:
    """Return images with their sensitivities and attention.

    Args:
      run: the run whose network is applied.
      images: uint8 `[N, h, w, C]`, in the run's form.
      extents: `[N, 2]`, height and width that each image fills; None if all do.
    """
    found = _program()(run.network, unpack(run.variables), images, extents)
    return Seen(*jax.tree.map(np.asarray, found))


def _look(
    network: Network, variables: Any, images: jax.Array, extents: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    levels = to_float(images, network.image_size, extents, network.fit)
    loss, model = LOSSES[network.loss.name], network.model

    def score(levels: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        normalized = normalize(levels, network.mean, network.std)
        logits, looks = attention_rollout(model, variables, normalized)
        return loss.log_probabilities(logits).max(-1).sum(), looks

    slopes, looks = jax.grad(score, has_aux=True)(levels)
    return levels, slopes.astype(jnp.float32), looks


@functools.cache
def _program() -> Any:
    """Return `_look` compiled, so that images of one shape share a program."""
    return jit_once(_look)


def draw_slopes(levels: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Draw sizes of slopes over faded images, uint8 `[N, H, W, 3]`.

    Args:
      levels: images `[N, H, W, C]`, 0 to 255.
      slopes: `[N, H, W, C]`; the steepest channel counts. Each image has its own scale.
    """
    size = np.abs(slopes).max(-1, keepdims=True)
    most = np.percentile(size, MOST, axis=(1, 2, 3), keepdims=True)
    share = size / np.maximum(most, np.finfo(np.float32).tiny)
    return _paint(levels, share, SENSITIVE)


def draw_looks(levels: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """Draw pixels with more than an even share of attention, uint8 `[N, H, W, 3]`.

    Args:
      levels: images `[N, H, W, C]`, 0 to 255.
      looks: `[N, H, W]`, shares of each image's attention. Each image has its own
        scale, of at least `LEAST` times an even share.
    """
    times = looks / looks.mean((1, 2), keepdims=True)
    most = np.maximum(times.max((1, 2), keepdims=True), LEAST)
    return _paint(levels, ((times - 1) / (most - 1))[..., None], LOOKED_AT)


def _paint(levels: np.ndarray, share: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Mix shares `[N, H, W, 1]` of a color into faded gray images."""
    share = np.clip(share, 0, 1)
    gray = FADED * levels.mean(-1, keepdims=True)
    mixed = (1 - share) * gray + share * color
    return np.clip(mixed, 0, 255).astype(np.uint8)
