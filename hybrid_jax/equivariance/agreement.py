"""Whether predictions stay the same when images are shifted, turned or mirrored."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from hybrid_jax.equivariance import shifts as moving
from hybrid_jax.equivariance.measures import Forward

Size = tuple[int, int]
STILL = "as they are"
SMALL, ANY = "cyclic -3 to 2 px", "any cyclic shift"
CROP, OTHER_CROP, SUBPIXEL = "crop", "other crop", "sub-pixel crop"
CONSISTENCY = "crops"  # agreement of the two crops with each other
CROP_SHARE = 8  # crops move within an eighth of a side, as 224 px do in 256 px


class Condition(NamedTuple):
    """A way to shift images.

    Attributes:
      draw: maps a random generator, a number of images and their size to shifts.
      move: applies the shifts to images, see `shifts`.
    """

    draw: Callable[[np.random.Generator, int, Size], np.ndarray]
    move: Callable[[jax.Array, jax.Array], jax.Array]


def crop_range(side: int) -> tuple[int, int]:
    """Return the least and the largest shift of a crop along a side, in pixels."""
    span = max(side // CROP_SHARE, 1)
    return -(span // 2), span - span // 2


def _draw_small(rng: np.random.Generator, count: int, _: Size) -> np.ndarray:
    return rng.integers(-3, 3, (count, 2))


def _draw_any(rng: np.random.Generator, count: int, size: Size) -> np.ndarray:
    return rng.integers(0, size, (count, 2))


def _draw_crop(rng: np.random.Generator, count: int, size: Size) -> np.ndarray:
    low, high = np.array([*map(crop_range, size)]).T
    return rng.integers(low, high + 1, (count, 2)).astype(np.float32)


def _draw_subpixel(rng: np.random.Generator, count: int, size: Size) -> np.ndarray:
    low, high = np.array([*map(crop_range, size)]).T
    return rng.uniform(low, high, (count, 2)).astype(np.float32)


# In this order: the shifts by which APS was measured (Chaman & Dokmanić 2021), shifts
# around the whole torus, the two crops of Zhang's consistency (2019), and crops between
# pixels.
SHIFTED = {
    SMALL: Condition(_draw_small, moving.shift_cyclic),
    ANY: Condition(_draw_any, moving.shift_cyclic),
    CROP: Condition(_draw_crop, moving.shift_before_camera),
    OTHER_CROP: Condition(_draw_crop, moving.shift_before_camera),
    SUBPIXEL: Condition(_draw_subpixel, moving.shift_before_camera),
}


@dataclasses.dataclass(frozen=True)
class Batch:
    """A batch of images, the last of which may be padding.

    Attributes:
      images: normalized, float `[B, H, W, C]`.
      labels: int `[n]`; None where there are none.
      count: `n`, how many of the images are not padding.
    """

    images: Any
    labels: np.ndarray | None
    count: int


class Predicted(NamedTuple):
    """Predicted classes of N images under each condition.

    Attributes:
      classes: predicted classes, int `[N]`, by condition, `STILL` first.
      labels: int `[N]`; None where there are none.
    """

    classes: dict[str, np.ndarray]
    labels: np.ndarray | None

    @property
    def agreement(self) -> dict[str, float]:
        """The share of images whose predicted class stays, by condition."""
        still = self.classes[STILL]
        shares = {
            name: float((found == still).mean())
            for name, found in self.classes.items()
            if name not in (STILL, CROP, OTHER_CROP)
        }
        both = self.classes[CROP] == self.classes[OTHER_CROP]
        return shares | {CONSISTENCY: float(both.mean())}

    @property
    def accuracy(self) -> dict[str, float]:
        """The accuracy by condition; empty without labels."""
        if self.labels is None:
            return {}
        return {
            name: float((found == self.labels).mean())
            for name, found in self.classes.items()
            if name != OTHER_CROP
        }


def predict(forward: Forward, batches: Iterable[Batch], seed: int) -> Predicted:
    """Predict the classes of images under each condition.

    Args:
      forward: the network.
      batches: batches of equal size.
      seed: seed of the shifts; one seed gives all networks the same shifts.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {}
    labels = []
    for batch in batches:
        labels.append(batch.labels)
        for name, move in _conditions(forward.size).items():
            logits = forward.logits(move(rng, batch.images))
            found.setdefault(name, []).append(
                np.asarray(logits)[: batch.count].argmax(1)
            )
    classes = {name: np.concatenate(parts) for name, parts in found.items()}
    known = [truth for truth in labels if truth is not None]
    return Predicted(classes, np.concatenate(known) if known else None)


@functools.cache
def _conditions(size: Size) -> dict[str, Callable[[np.random.Generator, Any], Any]]:
    """Return the function that moves a batch of images, by condition."""

    def shifted(condition: Condition) -> Callable[[np.random.Generator, Any], Any]:
        move = jax.jit(condition.move)
        return lambda rng, images: move(images, condition.draw(rng, len(images), size))

    found: dict[str, Callable[[np.random.Generator, Any], Any]] = {
        STILL: partial(_ignore_draws, lambda images: images)
    }
    found |= {name: shifted(condition) for name, condition in SHIFTED.items()}
    for name, symmetry in moving.symmetries(*size).items():
        found[name] = partial(_ignore_draws, symmetry)
    return found


def _ignore_draws(
    move: Callable[[Any], Any], rng: np.random.Generator, images: Any
) -> Any:
    return move(images)
