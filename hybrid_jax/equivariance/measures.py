"""Relative errors of a network's maps and logits, and their Lie derivative.

The relative error of `f` under a shift `S` of an image `x` is `|f(Sx) - S f(x)| /
|f(x)|`, in the Euclidean norm over all of a map; logits do not move, so theirs is
`|f(Sx) - f(x)| / |f(x)|`. Of several images and directions, the largest counts.

Shapes: B images of height H, width W and C channels; maps `[B, h, w, c]`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.equivariance import shifts as moving
from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.training import losses

Scores = Callable[[jax.Array], jax.Array]  # as a row of `losses.LOSSES` has it

SHIFTS = (1, 2, 4, 8, 16, 32)  # pixels; only shifts shorter than a side are measured
DIRECTIONS = ((1, 0), (0, 1), (1, 1))  # down, to the right, both
CHUNK = 64  # shifts of an image at a time
LOGITS = "logits"


class Forward:
    """A network with its weights, in evaluation mode, for normalized images."""

    def __init__(
        self, model: Any, variables: dict, scores: Scores = losses.exclusive_scores
    ):
        """Put the variables on the device; the first call of a method compiles.

        Args:
          model: the Flax module.
          variables: its parameters and batch statistics.
          scores: maps logits to scores, whose softmax gives the probabilities.
        """
        self.model, self._scores = model, scores
        self._variables = jax.tree.map(jnp.asarray, variables)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        height, width = self.model.image_size
        return height, width

    def logits(self, images: Any) -> jax.Array:
        """Return logits `[B, classes]` of images `[B, H, W, C]`."""
        return _logits(self.model, self._variables, images)

    def outputs(self, images: Any) -> dict[str, np.ndarray]:
        """Return the map `[B, h, w, c]` after each part by name, and logits last."""
        *maps, logits = map(np.asarray, _outputs(self.model, self._variables, images))
        is_hybrid = isinstance(self.model, HybridNet)
        names = [
            f"stage{i}" if is_hybrid else f"block{i + 1}" for i in range(len(maps))
        ]
        if is_hybrid:
            names[0] = "stem"
        return dict(zip(names, maps, strict=True)) | {LOGITS: logits}

    def slopes(self, images: Any) -> jax.Array:
        """Return derivatives of probabilities per pixel of shift, `[2, B, classes]`."""
        return _slopes(self.model, self._scores, self._variables, images)


# Compiled once for equal models, such as those of runs that differ in their seeds.
@functools.partial(jax.jit, static_argnums=0)
def _logits(model: Any, variables: dict, images: jax.Array) -> jax.Array:
    logits: jax.Array = model.apply(variables, images)
    return logits


@functools.partial(jax.jit, static_argnums=0)
def _outputs(model: Any, variables: dict, images: jax.Array) -> list[jax.Array]:
    logits, sown = model.apply(variables, images, mutable=["intermediates"])
    return [*sown["intermediates"]["maps"], logits]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _slopes(
    model: Any, scores: Scores, variables: dict, images: jax.Array
) -> jax.Array:
    def probabilities(shift: jax.Array) -> jax.Array:
        offsets = jnp.broadcast_to(shift, (len(images), 2))
        moved = moving.shift_before_camera(images, offsets)
        return nn.softmax(scores(model.apply(variables, moved)))

    still = jnp.zeros(2, images.dtype)
    axes = jnp.eye(2, dtype=images.dtype)
    return jnp.stack([jax.jvp(probabilities, [still], [axis])[1] for axis in axes])


def relative_errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return `|found - expected| / |expected|` of each of `B` arrays, float64 `[B]`."""
    found, expected = (
        np.asarray(x, np.float64).reshape(len(x), -1) for x in (found, expected)
    )
    return np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)


def aligned_errors(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the least relative error over all cyclic shifts of `expected`.

    If a stride does not divide the shift of an image, no shift of its map is the right
    one. So this error compares with the best shift: it is 0 if `found` is any cyclic
    shift of `expected`.

    Args:
      found, expected: maps `[B, h, w, c]`.

    Returns:
      float64 `[B]`.
    """
    found, expected = (np.asarray(x, np.float64) for x in (found, expected))
    spectra = [np.fft.fft2(x, axes=(1, 2)) for x in (found, expected)]
    products = np.fft.ifft2((spectra[0] * spectra[1].conj()).sum(-1), axes=(1, 2))
    best = products.real.reshape(len(found), -1).argmax(1)
    offsets = np.stack(np.unravel_index(best, found.shape[1:3]), 1)
    moved = [
        np.roll(x, offset, (0, 1)) for x, offset in zip(expected, offsets, strict=True)
    ]
    return relative_errors(found, np.stack(moved))


def map_errors(
    found: np.ndarray, expected: np.ndarray, shift: Sequence[int], size: Sequence[int]
) -> np.ndarray:
    """Return the relative error of each map under a cyclic shift of its image.

    If the stride divides the shift, the map is expected to shift by their quotient.
    Otherwise the error is that of `aligned_errors`.

    Args:
      found, expected: maps `[B, h, w, c]` of the shifted and of the original images.
      shift: shift of the images, in pixels down and to the right.
      size: height and width of the images.

    Returns:
      float64 `[B]`.
    """
    pairs = [*zip(shift, size, expected.shape[1:3], strict=True)]
    if any(pixels * length % side for pixels, side, length in pairs):
        return aligned_errors(found, expected)
    offset = [pixels * length // side for pixels, side, length in pairs]
    return relative_errors(found, np.roll(expected, offset, (1, 2)))


def shift_errors(
    forward: Forward, images: np.ndarray, shifts: Sequence[int] = SHIFTS
) -> dict[str, dict[str, float]]:
    """Return the largest relative error of each part under cyclic shifts.

    Args:
      forward: the network.
      images: `[B, H, W, C]`.
      shifts: shifts in pixels, each in all `DIRECTIONS`. A shift that is not shorter
        than a side is left out.

    Returns:
      The error by part (stem and stages, or blocks, and `logits`) and by shift.
    """
    still = forward.outputs(images)
    errors: dict[str, dict[str, float]] = {name: {} for name in still}
    for pixels in (n for n in shifts if n < min(forward.size)):
        for direction in DIRECTIONS:
            shift = [pixels * part for part in direction]
            moved = forward.outputs(np.roll(images, shift, (1, 2)))
            for name, expected in still.items():
                if name == LOGITS:
                    found = relative_errors(moved[name], expected)
                else:
                    found = map_errors(moved[name], expected, shift, forward.size)
                row = errors[name]
                # Python's `max` would lose NaN.
                row[str(pixels)] = float(np.max([row.get(str(pixels), 0), *found]))
    return errors


def every_shift_error(forward: Forward, images: np.ndarray) -> float:
    """Return the largest relative error of logits over all cyclic shifts.

    Args:
      forward: the network.
      images: `[B, H, W, C]`; each is shifted in `H * W` ways.
    """
    height, width = forward.size
    shifts = np.stack(np.divmod(np.arange(height * width), width), 1)
    move, largest = jax.jit(moving.shift_cyclic), 0.0
    for image in images:
        many = np.broadcast_to(image, (CHUNK, *image.shape))
        expected = np.asarray(forward.logits(many))
        for first in range(0, len(shifts), CHUNK):
            chunk = np.resize(shifts[first : first + CHUNK], (CHUNK, 2))
            found = np.asarray(forward.logits(move(many, chunk)))
            largest = float(np.max([largest, *relative_errors(found, expected)]))
    return largest


def lie_derivative(forward: Forward, images: np.ndarray) -> float:
    """Return how fast probabilities change as the image shifts, per pixel.

    It is the mean absolute derivative with respect to `shifts.shift_before_camera`,
    over both axes, images and classes.

    Source: Gruver et al. 2023, The Lie derivative for measuring learned equivariance.
    """
    return float(np.abs(np.asarray(forward.slopes(images))).mean())


def symmetry_errors(forward: Forward, images: np.ndarray) -> dict[str, float]:
    """Return the largest relative error of logits under each turn and reflection."""
    still = np.asarray(forward.logits(images))
    return {
        name: float(
            relative_errors(np.asarray(forward.logits(move(images))), still).max()
        )
        for name, move in moving.symmetries(*forward.size).items()
    }
