"""Which places an answer depends on, and where attention looks, drawn over images.

A window is moved over an image and covers it with the median color of the image. An
answer depends on the places where its probability falls.

Sources: Zeiler & Fergus 2014, Visualizing and understanding convolutional networks,
section 4.2 (they cover with gray); and `hybrid_jax.models.rollout`.

Shapes: N images of height H, width W and C channels, as the network sees them; K
positions of the window.
"""

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.augment import normalize, to_float
from hybrid_jax.data import Split
from hybrid_jax.models.rollout import attention_rollout
from hybrid_jax.models.strides import Size
from hybrid_jax.runs.run import Run
from hybrid_jax.runtime import jit_once
from hybrid_jax.training.losses import LOSSES
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.step import Network

NEEDED = np.array([255.0, 120.0, 0.0])  # red, green, blue of what an answer depends on
LOOKED_AT = np.array([60.0, 160.0, 255.0])  # and of what attention looks at
STEPS = 8  # of the window along a side; the window is two steps wide
LEAST_FALL = 0.1  # fall of a probability that gets the full color if none is larger
LEAST = 2.0  # multiple of an even share that gets the full color if none is larger
FADED = 0.6  # share of the image's own brightness that stays


class Seen(NamedTuple):
    """Images, and what a network's answers to them depend on.

    Attributes:
      levels: the images, `[N, H, W, C]`, 0 to 255.
      falls: by how much covering a pixel lowers the probability of the likeliest
        class, `[N, H, W]`: the mean over the windows that cover it.
      looks: share of attention of each pixel, `[N, H, W]`; None without attention over
        a map.
    """

    levels: np.ndarray
    falls: np.ndarray
    looks: np.ndarray | None


def overlays(run: Run, split: Split, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Draw what answers depend on, and attention where the network has it, over images.

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
    drawn = {"Places that {} depends on": draw_falls(seen.levels, seen.falls)}
    if seen.looks is not None:
        drawn["Where attention looks for {}"] = draw_looks(seen.levels, seen.looks)
    return drawn


def look(run: Run, images: np.ndarray, extents: np.ndarray | None = None) -> Seen:
    """Return images, with what their answers depend on and where attention looks.

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
    medians = jnp.median(levels, (1, 2), keepdims=True)

    def probabilities(logits: jax.Array) -> jax.Array:
        return jnp.exp(LOSSES[network.loss.name].log_probabilities(logits))

    def fall(window: jax.Array) -> jax.Array:
        covered = jnp.where(window[..., None], medians, levels)
        logits = network.model.apply(variables, normalize(covered, *statistics))
        return before - probabilities(cast(jax.Array, logits))[each, answers]

    statistics = network.mean, network.std
    logits, looks = attention_rollout(
        network.model, variables, normalize(levels, *statistics)
    )
    each, answers = jnp.arange(len(levels)), logits.argmax(-1)
    before = probabilities(logits)[each, answers]
    covers = windows(network.image_size)
    falls = jax.lax.map(fall, covers)
    of_pixels = jnp.einsum("kn,khw->nhw", falls, covers / covers.sum(0))
    return levels, of_pixels, looks


def windows(size: Size) -> np.ndarray:
    """Return the positions of the window over an image, bool `[K, H, W]`.

    They overlap by half, and the outermost reach over the edges. So all pixels are
    covered equally often, four times, if the sides are multiples of `STEPS`.

    Args:
      size: `(H, W)`.
    """
    covered = []
    for side in size:
        edges = np.rint(np.arange(-1, STEPS + 2) * side / STEPS)[:, None]
        pixels = np.arange(side)
        covered.append((edges[:-2] <= pixels) & (pixels < edges[2:]))
    rows, columns = covered
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return both.reshape(-1, *size)


@functools.cache
def _program() -> Any:
    """Return `_look` compiled, so that images of one shape share a program."""
    return jit_once(_look)


def draw_falls(levels: np.ndarray, falls: np.ndarray) -> np.ndarray:
    """Draw how far probabilities fall over faded images, uint8 `[N, H, W, 3]`.

    Args:
      levels: images `[N, H, W, C]`, 0 to 255.
      falls: `[N, H, W]`. Each image has its own scale, of at least `LEAST_FALL`.
    """
    most = np.maximum(falls.max((1, 2), keepdims=True), LEAST_FALL)
    return _paint(levels, (falls / most)[..., None], NEEDED)


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
