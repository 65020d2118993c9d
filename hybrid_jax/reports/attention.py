"""Where a network's last attention looks, drawn over the image.

Shapes: N images of height H, width W and C channels, as the network sees them.
"""

import functools
from typing import Any

import jax
import numpy as np

from hybrid_jax.augment import normalize, to_float
from hybrid_jax.data import Split
from hybrid_jax.engine.run import Run
from hybrid_jax.models.rollout import attention_rollout
from hybrid_jax.reports.saliency import paint
from hybrid_jax.runtime import jit_once
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.step import Network

MARK = np.array([60.0, 160.0, 255.0])  # red, green, blue of what has the most
LEAST = 2.0  # times an even share, which have the whole color if nothing has more


def overlays(run: Run, split: Split, rows: np.ndarray) -> np.ndarray | None:
    """Draw where attention looks over images, uint8 `[N, H, W, 3]`.

    Args:
      run: whose network it is.
      split: the images.
      rows: numbers of those to draw.

    Returns:
      None for a network without attention over a map.

    Raises:
      UserError: an image cannot be read.
    """
    extents = None if split.extents is None else split.extents[rows]
    images = np.asarray(split.images[rows])
    levels, looks = _program()(run.network, unpack(run.variables), images, extents)
    return None if looks is None else draw(np.asarray(levels), np.asarray(looks))


def draw(levels: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """Draw what has more than an even share of attention, uint8 `[N, H, W, 3]`.

    Args:
      levels: images `[N, H, W, C]`, 0 to 255.
      looks: `[N, H, W]`, shares of each image's attention. The scale is the image's,
        unless that makes much of little.
    """
    even = looks.mean((1, 2), keepdims=True)
    times = looks / even
    most = np.maximum(times.max((1, 2), keepdims=True), LEAST)
    return paint(levels, ((times - 1) / (most - 1))[..., None], MARK)


def _look(
    network: Network, variables: Any, images: jax.Array, extents: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    levels = to_float(images, network.image_size, extents, network.fit)
    normalized = normalize(levels, network.mean, network.std)
    model: Any = network.model
    return levels, attention_rollout(model, variables, normalized)


@functools.cache
def _program() -> Any:
    """Return `_look` compiled, so that images of one shape share a program."""
    return jit_once(_look)
