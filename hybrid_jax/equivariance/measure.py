"""Measure networks one by one, and time them in turns."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from hybrid_jax.equivariance import agreement, measures
from hybrid_jax.equivariance.networks import TRAINED, Subject
from hybrid_jax.errors import UserError
from hybrid_jax.models.cost import cost

ROUNDS = 11  # of timing
# Unless the user asks for more: shifted images that are measured, and images that are
# shifted in every way, at most.
EVERY_SHIFT = 4096
MOST_SHIFTED = 4
Busy = Callable[[str], contextlib.AbstractContextManager]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
      images: number of images for errors and derivatives; noise for a model without a
        run.
      every_shift: number of images of which every cyclic shift is measured; None takes
        as many as `EVERY_SHIFT` and `MOST_SHIFTED` allow.
      seed: seed of shifts, images of noise, and the random weights of a model by name;
        those of a run have the run's own seed.
      precision: `float32` or `float64`.
    """

    images: int = 32
    every_shift: int | None = None
    seed: int = 0
    precision: str = "float32"

    def shifted_images(self, size: Sequence[int]) -> int:
        """Return the number of images of this size that are shifted in every way."""
        if self.every_shift is not None:
            return self.every_shift
        height, width = size
        return min(EVERY_SHIFT // (height * width), MOST_SHIFTED)


class Measured(NamedTuple):
    """Measurements of one network.

    Attributes:
      row, name, weights: see `networks.Subject`.
      values: measured numbers by name, nested, see `measure`.
      split: name of the images' split; empty for noise.
    """

    row: str
    name: str
    weights: str
    values: dict[str, Any]
    split: str = ""


def measure(subject: Subject, settings: Settings, busy: Busy) -> Measured:
    """Measure a network on its images.

    Args:
      subject: the network.
      settings: how much is measured.
      busy: shows what is under way.

    Returns:
      Measurements with the values `images` (their number), `errors` (under shifts, by
      part), `symmetry_errors`, `every_shift` (if measured), `lie_derivative`,
      `predicted` (number of predicted images), their `agreement`, and their `accuracy`
      with trained weights.

    Raises:
      UserError: its logits are not finite.
    """
    title = f"{subject.row}, {subject.weights}, {subject.name}"
    with busy(f"{title}: relative errors"):
        forward = subject.forward()
        images = subject.first_images(settings.images)
        if not np.isfinite(forward.logits(images)).all():
            raise UserError(
                f"{title}: its logits are not finite: leave it out, or give another "
                "--checkpoint"
            )
        values: dict[str, Any] = {"images": len(images)}
        values["errors"] = measures.shift_errors(forward, images)
        values["symmetry_errors"] = measures.symmetry_errors(forward, images)
    shifted = images[: settings.shifted_images(forward.size)]
    if len(shifted):
        with busy(f"{title}: every shift of {len(shifted)} images"):
            error = measures.every_shift_error(forward, shifted)
        values["every_shift"] = {"error": error, "images": len(shifted)}
    with busy(f"{title}: Lie derivative"):
        values["lie_derivative"] = measures.lie_derivative(forward, images)
    with busy(f"{title}: predictions"):
        found = agreement.predict(forward, subject.batches(), settings.seed)
    values["predicted"] = len(found.classes[agreement.STILL])
    values["agreement"] = found.agreement
    if subject.weights == TRAINED and found.accuracy:
        values["accuracy"] = found.accuracy
    names = subject.row, subject.name, subject.weights
    return Measured(*names, values, subject.split())


def costs(subjects: Sequence[Subject], settings: Settings) -> dict[str, dict]:
    """Return parameters, MACs and milliseconds of each row's first network.

    Milliseconds are per image. The forward passes take turns, so that other work of the
    machine affects all networks alike.
    """
    rows: dict[str, Subject] = {}
    for subject in subjects:
        rows.setdefault(subject.row, subject)
    programs = {}
    for row, subject in rows.items():
        forward = subject.forward()
        images = jax.device_put(subject.first_images(settings.images))
        jax.block_until_ready(forward.logits(images))
        programs[row] = forward, images
    seconds: dict[str, list[float]] = {row: [] for row in rows}
    for number in range(ROUNDS):
        for row in [*rows] if number % 2 else [*rows][::-1]:
            forward, images = programs[row]
            start = time.perf_counter()
            jax.block_until_ready(forward.logits(images))
            seconds[row].append((time.perf_counter() - start) / len(images))
    found = {row: cost(s.model, s.channels) for row, s in rows.items()}
    return {
        row: {
            "parameters": counted.parameters,
            "macs": counted.macs,
            "milliseconds": 1000 * statistics.median(seconds[row]),
        }
        for row, counted in found.items()
    }
