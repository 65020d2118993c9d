"""Align two images, and measure their similarity where they overlap.

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

from hybrid_jax.data.lazy_images import parallel_map
from hybrid_jax.inspection.candidates import Candidates

FINE_SIGMA, BROAD_SIGMA = 0.7, 2.0  # pixels of blur, between which details lie
NOISE_GAIN = 0.33  # share of white noise that remains in details
DETAILS = 2 / 3  # weight of details in a similarity; shapes have the rest
MAX_SHIFT, MAX_ZOOM, MAX_STEP = 0.25, 0.5, 0.06
DAMPING = 0.01
FRAME = 0.125  # share of a side that a frame may cover
BLOCK, SMALL_BLOCK = 2048, 256  # pairs that are compared at once
MIN_VISIBLE = 0.02  # share of a side: smaller shifts and zooms are not reported


@jax.jit
def align(
    image: jax.Array, other: jax.Array, placement: jax.Array, steps: int
) -> jax.Array:
    """Improve the placement of `image` `[P, S, S]` in `other`, `[P, 3]`."""
    return jax.lax.fori_loop(
        0, steps, lambda _, better: _step(image, other, better), placement
    )


@jax.jit
def similarity(
    image: jax.Array, other: jax.Array, placement: jax.Array, noise: jax.Array
) -> jax.Array:
    """Return the similarity of shapes and details, 1 for equal images, `[P]`.

    It is the larger of two similarities: of all that both images show, and of their
    centers alone, since borders may be frames.

    Args:
      image, other: `[P, S, S]`, in levels of 0 to 255.
      placement: `[P, 3]`.
      noise: `[P]`, noise of a pixel in levels; without it, faint images would look
        alike.
    """
    size = image.shape[-1]
    fine_blur, broad_blur = _blur(size, FINE_SIGMA), _blur(size, BROAD_SIGMA)
    details = _band_pass(image, fine_blur, broad_blur)
    other_details = _band_pass(other, fine_blur, broad_blur)
    similarities = []
    for side in (1.0, 1 - 2 * FRAME):
        shapes = _correlation(image, other, placement, noise, side)
        fine = _correlation(details, other_details, placement, NOISE_GAIN * noise, side)
        similarities.append(DETAILS * fine + (1 - DETAILS) * shapes)
    return jnp.maximum(*similarities)


def halved(thumbnails: np.ndarray) -> np.ndarray:
    """Return thumbnails of half the side."""
    p, s, _ = thumbnails.shape
    return thumbnails.reshape(p, s // 2, 2, s // 2, 2).mean((2, 4))


def _step(image: jax.Array, other: jax.Array, placement: jax.Array) -> jax.Array:
    pixels, zoom = image.shape[-1], jnp.exp(placement[:, 2])[:, None, None]
    warped, mask = _warp(other, placement, 1.0)
    # Pixels at the border lack neighbors.
    mask = mask.at[:, [0, -1]].set(0.0).at[:, :, [0, -1]].set(0.0)
    other_normalized, length = _normalized(warped, mask)
    image_normalized, _ = _normalized(image, mask)
    slope = pixels / 2 / zoom
    down = (jnp.roll(warped, -1, 1) - jnp.roll(warped, 1, 1)) * slope
    right = (jnp.roll(warped, -1, 2) - jnp.roll(warped, 1, 2)) * slope
    u = _positions(pixels)
    changes = jnp.stack([down, right, (down * u[:, None] + right * u) * zoom], 1)
    # Steps must not follow changes of brightness and contrast.
    changes = jax.vmap(_centered, (1, None), 1)(changes, mask) / length[:, None]
    along = jnp.einsum("pkij,pij->pk", changes, other_normalized)
    changes = changes - along[..., None, None] * other_normalized[:, None]
    products = jnp.einsum("pkij,plij->pkl", changes, changes)
    scale = DAMPING * jnp.trace(products, axis1=1, axis2=2)[:, None, None] / 3 + 1e-9
    differences = jnp.einsum(
        "pkij,pij->pk", changes, image_normalized - other_normalized
    )
    step = jnp.linalg.solve(products + scale * jnp.eye(3), differences[..., None])
    placement = placement + jnp.clip(step[..., 0], -MAX_STEP, MAX_STEP)
    most = jnp.array([MAX_SHIFT, MAX_SHIFT, MAX_ZOOM])
    return jnp.clip(placement, -most, most)


def _correlation(
    image: jax.Array,
    other: jax.Array,
    placement: jax.Array,
    noise: jax.Array,
    side: float,
) -> jax.Array:
    """Correlate what both images show, `[P]`; noise correlates with nothing."""
    warped, mask = _warp(other, placement, side)
    image_normalized, other_normalized = _centered(image, mask), _centered(warped, mask)
    noise = mask.sum((1, 2)) * noise**2
    energy = (
        (image_normalized**2).sum((1, 2)) + noise,
        (other_normalized**2).sum((1, 2)) + noise,
    )
    return (image_normalized * other_normalized).sum((1, 2)) / jnp.sqrt(
        energy[0] * energy[1] + 1e-12
    )


def _warp(other: jax.Array, placement: jax.Array, side: float) -> tuple:
    """Warp the other image by its placement, and mask what both show, `[P, S, S]`."""
    pixels, zoom = other.shape[-1], jnp.exp(placement[:, 2:])
    u = _positions(pixels)

    def along(axis: int) -> tuple[jax.Array, jax.Array]:
        v = zoom * u + placement[:, axis, None]
        nearness = (v[..., None] - u) * pixels
        mask = (jnp.abs(v) <= side / 2 - 0.25 / pixels) & (jnp.abs(u) <= side / 2)
        return jnp.maximum(0, 1 - jnp.abs(nearness)), mask.astype(jnp.float32)

    (down, mask_down), (right, mask_right) = along(0), along(1)
    warped = (down @ other) @ right.transpose(0, 2, 1)
    return warped, mask_down[:, :, None] * mask_right[:, None]


def _positions(pixels: int) -> jax.Array:
    return (jnp.arange(pixels) + 0.5) / pixels - 0.5


def _centered(image: jax.Array, mask: jax.Array) -> jax.Array:
    mean = (image * mask).sum((1, 2)) / jnp.maximum(mask.sum((1, 2)), 1)
    return (image - mean[:, None, None]) * mask


def _normalized(image: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return an image without its mean and of unit norm, and its norm before."""
    image = _centered(image, mask)
    norm = jnp.sqrt((image**2).sum((1, 2), keepdims=True) + 1e-6)
    return image / norm, norm


@functools.cache
def _blur(pixels: int, sigma: float) -> np.ndarray:
    """Return the Gaussian blur of a line of pixels, `[pixels, pixels]`."""
    line = np.eye(pixels, dtype=np.float32)
    return gaussian_filter1d(line, sigma, axis=0, mode="nearest")


def _band_pass(image: jax.Array, fine: np.ndarray, broad: np.ndarray) -> jax.Array:
    return fine @ image @ fine.T - broad @ image @ broad.T


def compare(
    thumbnails: np.ndarray,
    noise: np.ndarray,
    pairs: Candidates,
    steps: int,
    fine: bool,
    title: str = "",
) -> tuple[Candidates, np.ndarray]:
    """Align pairs from their first placements, and measure their similarity.

    Args:
      thumbnails: `[N, S, S]`, in levels of 0 to 255.
      noise: `[N]`, noise of a pixel in levels.
      pairs: pairs of the thumbnails.
      steps: number of steps of the alignment.
      fine: whether all pixels are compared; otherwise thumbnails of half the side.
      title: title of a progress bar.

    Returns:
      The pairs, with better placements, and their similarity `[P]`.
    """
    placements = np.empty_like(pairs.start)
    similarities = np.empty(len(pairs.start), np.float32)
    size = BLOCK if len(similarities) > SMALL_BLOCK else SMALL_BLOCK

    def compare_rows(rows: slice) -> None:
        # Blocks have one size, so that their program is compiled once.
        indices = np.resize(np.arange(rows.start, rows.stop), size)
        block = pairs.take(indices)
        image = thumbnails[block.image].astype(np.float32)
        image = np.where(block.mirrored[:, None, None], image[:, :, ::-1], image)
        other = thumbnails[block.other].astype(np.float32)
        if not fine:
            image, other = halved(image), halved(other)
        level = np.maximum(noise[block.image], noise[block.other]).astype(np.float32)
        count = rows.stop - rows.start
        placed = align(image, other, block.start, steps)
        similarities[rows] = similarity(image, other, placed, level)[:count]
        placements[rows] = placed[:count]

    for _ in parallel_map(compare_rows, len(similarities), title, size):
        pass
    return pairs._replace(start=placements), similarities


def placement_text(mirrored: bool, down: float, right: float, zoom: float) -> str:
    """Return a placement in words: `mirrored, 6 % to the right, 10 % larger`."""
    words = ["mirrored"] if mirrored else []
    for part, positive, negative in (
        (right, "to the right", "to the left"),
        (down, "down", "up"),
        (np.exp(zoom) - 1, "larger", "smaller"),
    ):
        if abs(part) >= MIN_VISIBLE:
            way = positive if part > 0 else negative
            words.append(f"{100 * abs(part):.0f} % {way}")
    return ", ".join(words)
