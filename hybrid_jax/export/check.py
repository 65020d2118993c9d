"""Compare an exported network with the run itself."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hybrid_jax import data
from hybrid_jax.augment.affine import resize_to_fit
from hybrid_jax.config.data_fields import IN_MEMORY
from hybrid_jax.errors import UserError, first_line, plural
from hybrid_jax.export.program import (
    full_precision,
    in_float32,
    input_shape,
)
from hybrid_jax.runs.run import Run

# Of probabilities. Another order of summation in float32 changes them by a tenth of it.
TOLERANCE = 1e-5
COUNT = 8  # images


class Reader(NamedTuple):
    """An exported network, as another program reads it.

    Attributes:
      name: name of the other program.
      predict: maps images uint8 `[n, h, w, C]` to probabilities float32 `[n, classes]`.
    """

    name: str
    predict: Callable[[np.ndarray], np.ndarray]


class Expected(NamedTuple):
    """Images, and the run's own probabilities for them.

    Attributes:
      images: uint8 `[n, h, w, C]`.
      probabilities: float32 `[n, classes]`, computed in float32.
      source: where the images are from, in words.
    """

    images: np.ndarray
    probabilities: np.ndarray
    source: str


def expect(run: Run, temperature: float = 1.0) -> Expected:
    """Return images, and the run's own probabilities to compare an export with.

    Call it before the export.

    Args:
      run: the run.
      temperature: divides log probabilities.
    """
    images, source = _choose_images(run)
    with full_precision():
        probabilities = in_float32(run).predict(images, len(images), temperature)
    return Expected(images, probabilities, source)


def largest_difference(expected: Expected, reader: Reader) -> float:
    """Return the largest difference between exported and own probabilities.

    The reader predicts all images together, and then the first image alone.

    Args:
      expected: images and the run's probabilities.
      reader: predicts with the exported network.

    Raises:
      UserError: the difference exceeds `TOLERANCE`, or probabilities have another
        shape.
    """
    worst = 0.0
    for count in (len(expected.images), 1):
        own = expected.probabilities[:count]
        found = np.asarray(reader.predict(expected.images[:count]))
        if found.shape != own.shape:
            raise UserError(
                f"in {reader.name}, the exported network returns shape {found.shape} "
                f"for {plural(count, 'image')} instead of {own.shape}: nothing was kept"
            )
        difference = np.abs(found.astype(np.float64) - own)
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max()))
    if worst > TOLERANCE:
        raise UserError(
            f"in {reader.name}, the exported network differs from the run by "
            f"{worst:.1e} in a probability; {TOLERANCE:.0e} is allowed: nothing was "
            "kept"
        )
    return worst


def _choose_images(run: Run) -> tuple[np.ndarray, str]:
    """Return a few images of the run's data, or random ones, and their source."""
    shape, reason = input_shape(run), "its data are not on this machine"
    try:
        if run.config.data.name == IN_MEMORY:
            reason = "its data were handed over in memory"
        elif data.is_at_hand(run.config.data):
            images, split = _real_images(run)
            if images.shape[1:] == shape:
                return images, f"{plural(len(images), f'{split} image')} of the run"
            reason = "its data have another form now"
    except (UserError, OSError) as error:
        reason = first_line(error)
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *shape), np.uint8)
    return images, f"{COUNT} random images, since {reason}"


def _real_images(run: Run) -> tuple[np.ndarray, str]:
    """Return images of the run's data, as its program takes them, and their split."""
    source = data.open_source(run.config.data)
    split = "test" if "test" in source.splits else source.splits[0]
    found = source.images(split)
    rows = np.linspace(0, len(found) - 1, min(COUNT, len(found))).astype(int)
    chosen = found.take(rows)
    pixels = chosen[np.arange(len(chosen))]
    if chosen.extents is None:
        return pixels, split
    resized = resize_to_fit(
        jnp.asarray(pixels),
        jnp.asarray(chosen.extents),
        input_shape(run)[:2],
        run.form.fit,
    )
    return np.asarray(jnp.clip(jnp.round(resized), 0, 255)).astype(np.uint8), split
