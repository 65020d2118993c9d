"""Lays one image over another, and measures how alike they are where both are seen.

A point `u` of an image, from -0.5 to 0.5 of its side, lies in the other image at
`exp(s) u + t`. The shift `t` and the zoom `s` are found by Gauss-Newton steps on the
difference of both images, each without its mean and of unit norm, so that brightness
and contrast do not matter (Lucas and Kanade 1981; Evangelidis and Psarakis 2008).

Shapes: `P` pairs, thumbnails of `S` x `S` pixels, placements `[P, 3]` of down, right
and zoom.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter1d

from hybrid_jax.data.lazy_images import mapped
from hybrid_jax.inspection.candidates import Candidates

FINE, BROAD = 0.7, 2.0  # pixels of blurring, between which details lie
NOISE_BETWEEN = 0.33  # of white noise: what these details keep of it
DETAILS = 2 / 3  # weight of details in a likeness; the other third is of shapes
MOST_SHIFT, MOST_ZOOM, MOST_STEP = 0.25, 0.5, 0.06
DAMPING = 0.01
FRAME = 0.125  # of a side that a frame may cover
PAIRS, FEW_PAIRS = 2048, 256  # compared at once
SEEN = 0.02  # of a side: shifts and zooms that are worth words


@jax.jit
def align(
    image: jax.Array, other: jax.Array, placement: jax.Array, steps: int
) -> jax.Array:
    """A better placement of `image` `[P, S, S]` in `other`, `[P, 3]`."""
    return jax.lax.fori_loop(
        0, steps, lambda _, better: _step(image, other, better), placement
    )


@jax.jit
def likeness(
    image: jax.Array, other: jax.Array, placement: jax.Array, noise: jax.Array
) -> jax.Array:
    """How alike they are in shapes and details, 1 for equal ones, `[P]`.

    Of all that is seen in both, or of their middles alone, which may lie in frames.

    Args:
      image, other: `[P, S, S]`, in levels of 0 to 255.
      placement: `[P, 3]`.
      noise: `[P]`, in levels, of a pixel: without it faint images would look alike.
    """
    blurs = _blur(image.shape[-1], FINE), _blur(image.shape[-1], BROAD)
    details = [_between(x, *blurs) for x in (image, other)]
    ways = []
    for side in (1.0, 1 - 2 * FRAME):
        shapes = _correlation(image, other, placement, noise, side)
        fine = _correlation(*details, placement, NOISE_BETWEEN * noise, side)
        ways.append(DETAILS * fine + (1 - DETAILS) * shapes)
    return jnp.maximum(*ways)


def halved(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails of half the side."""
    p, s, _ = thumbnails.shape
    return thumbnails.reshape(p, s // 2, 2, s // 2, 2).mean((2, 4))


def _step(image: jax.Array, other: jax.Array, placement: jax.Array) -> jax.Array:
    pixels, zoom = image.shape[-1], jnp.exp(placement[:, 2])[:, None, None]
    laid, seen = _lay(other, placement, 1.0)
    # What a pixel's neighbors outside of the image would be is not known.
    seen = seen.at[:, [0, -1]].set(0.0).at[:, :, [0, -1]].set(0.0)
    there, length = _normalized(laid, seen)
    here, _ = _normalized(image, seen)
    slope = pixels / 2 / zoom
    down = (jnp.roll(laid, -1, 1) - jnp.roll(laid, 1, 1)) * slope
    right = (jnp.roll(laid, -1, 2) - jnp.roll(laid, 1, 2)) * slope
    u = _positions(pixels)
    changes = jnp.stack([down, right, (down * u[:, None] + right * u) * zoom], 1)
    # Changes of brightness and of contrast are none.
    changes = jax.vmap(_centered, (1, None), 1)(changes, seen) / length[:, None]
    along = jnp.einsum("pkij,pij->pk", changes, there)
    changes = changes - along[..., None, None] * there[:, None]
    products = jnp.einsum("pkij,plij->pkl", changes, changes)
    scale = DAMPING * jnp.trace(products, axis1=1, axis2=2)[:, None, None] / 3 + 1e-9
    differences = jnp.einsum("pkij,pij->pk", changes, here - there)
    step = jnp.linalg.solve(products + scale * jnp.eye(3), differences[..., None])
    placement = placement + jnp.clip(step[..., 0], -MOST_STEP, MOST_STEP)
    most = jnp.array([MOST_SHIFT, MOST_SHIFT, MOST_ZOOM])
    return jnp.clip(placement, -most, most)


def _correlation(image, other, placement, noise, side: float) -> jax.Array:
    """The correlation of what is seen of both, `[P]`; noise correlates with nothing."""
    laid, seen = _lay(other, placement, side)
    here, there = _centered(image, seen), _centered(laid, seen)
    noise = seen.sum((1, 2)) * noise**2
    energy = (here**2).sum((1, 2)) + noise, (there**2).sum((1, 2)) + noise
    return (here * there).sum((1, 2)) / jnp.sqrt(energy[0] * energy[1] + 1e-12)


def _lay(other: jax.Array, placement: jax.Array, side: float) -> tuple:
    """The other image as it is placed, and where both are seen: `[P, S, S]` each."""
    pixels, zoom = other.shape[-1], jnp.exp(placement[:, 2:])
    u = _positions(pixels)

    def along(axis: int) -> tuple[jax.Array, jax.Array]:
        v = zoom * u + placement[:, axis, None]
        nearness = (v[..., None] - u) * pixels
        seen = (jnp.abs(v) <= side / 2 - 0.25 / pixels) & (jnp.abs(u) <= side / 2)
        return jnp.maximum(0, 1 - jnp.abs(nearness)), seen.astype(jnp.float32)

    (down, seen_down), (right, seen_right) = along(0), along(1)
    laid = (down @ other) @ right.transpose(0, 2, 1)
    return laid, seen_down[:, :, None] * seen_right[:, None]


def _positions(pixels: int) -> jax.Array:
    return (jnp.arange(pixels) + 0.5) / pixels - 0.5


def _centered(image: jax.Array, seen: jax.Array) -> jax.Array:
    mean = (image * seen).sum((1, 2)) / jnp.maximum(seen.sum((1, 2)), 1)
    return (image - mean[:, None, None]) * seen


def _normalized(image: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Without mean and of unit norm, and the norm that it had."""
    image = _centered(image, seen)
    norm = jnp.sqrt((image**2).sum((1, 2), keepdims=True) + 1e-6)
    return image / norm, norm


@functools.cache
def _blur(pixels: int, sigma: float) -> np.ndarray:
    """Gaussian blurring of a line of pixels, `[pixels, pixels]`."""
    line = np.eye(pixels, dtype=np.float32)
    return gaussian_filter1d(line, sigma, axis=0, mode="nearest")


def _between(image: jax.Array, fine: np.ndarray, broad: np.ndarray) -> jax.Array:
    return fine @ image @ fine.T - broad @ image @ broad.T


def compare(
    thumbnails: np.ndarray,
    noise: np.ndarray,
    pairs: Candidates,
    steps: int,
    fine: bool,
    title: str = "",
) -> tuple[Candidates, np.ndarray]:
    """Aligns pairs from where they are, and measures how alike they are then.

    Args:
      thumbnails: `[N, S, S]`, in levels of 0 to 255.
      noise: `[N]`, in levels, of a pixel.
      pairs: of the thumbnails.
      steps: of the alignment.
      fine: whether all pixels are compared; otherwise thumbnails of half the side.
      title: of a progress bar.

    Returns:
      The pairs, with better placements, and their likeness `[P]`.
    """
    placements = np.empty_like(pairs.start)
    alike = np.empty(len(pairs.start), np.float32)
    size = PAIRS if len(alike) > FEW_PAIRS else FEW_PAIRS

    def compare_some(rows: slice) -> None:
        # Blocks of one size: their program is compiled once.
        chosen = np.resize(np.arange(rows.start, rows.stop), size)
        some = pairs.take(chosen)
        image = thumbnails[some.image].astype(np.float32)
        image = np.where(some.mirrored[:, None, None], image[:, :, ::-1], image)
        other = thumbnails[some.other].astype(np.float32)
        if not fine:
            image, other = halved(image), halved(other)
        level = np.maximum(noise[some.image], noise[some.other]).astype(np.float32)
        count = rows.stop - rows.start
        placed = align(image, other, some.start, steps)
        alike[rows] = likeness(image, other, placed, level)[:count]
        placements[rows] = placed[:count]

    for _ in mapped(compare_some, len(alike), title, size):
        pass
    return pairs._replace(start=placements), alike


def described(mirrored: bool, down: float, right: float, zoom: float) -> str:
    """A placement in words, such as `mirrored, 6 % to the right, 10 % larger`."""
    words = ["mirrored"] if mirrored else []
    for part, positive, negative in (
        (right, "to the right", "to the left"),
        (down, "down", "up"),
        (np.exp(zoom) - 1, "larger", "smaller"),
    ):
        if abs(part) >= SEEN:
            way = positive if part > 0 else negative
            words.append(f"{100 * abs(part):.0f} % {way}")
    return ", ".join(words)
