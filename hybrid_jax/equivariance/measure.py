"""Measure networks, each by itself, and time them side by side."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from hybrid_jax.equivariance import agreement, measures
from hybrid_jax.equivariance.measures import Forward
from hybrid_jax.equivariance.networks import TRAINED, Subject
from hybrid_jax.models.cost import cost

ROUNDS = 11  # of timing
EVERY_SHIFT = 4096  # shifted images that are measured unless more are asked for
MOST_SHIFTED = 4  # images of which every shift is measured, at most, likewise
Busy = Callable[[str], contextlib.AbstractContextManager]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
      images: of which errors and derivatives are measured; noise where there are none.
      every_shift: images of which every cyclic shift is measured; None takes as many
        as `EVERY_SHIFT` allows.
      seed: of shifts, and of weights and images that are random.
      precision: `float32` or `float64`.
    """

    images: int = 32
    every_shift: int | None = None
    seed: int = 0
    precision: str = "float32"

    def shifted_images(self, size: Sequence[int]) -> int:
        """Return the images of which every shift is measured, of such a size."""
        if self.every_shift is not None:
            return self.every_shift
        height, width = size
        return min(EVERY_SHIFT // (height * width), MOST_SHIFTED)


class Measured(NamedTuple):
    """What is known of one network.

    Attributes:
      row, name, weights: see `networks.Subject`.
      values: numbers by name; nested.
    """

    row: str
    name: str
    weights: str
    values: dict[str, Any]


def measure(subject: Subject, settings: Settings, busy: Busy) -> Measured:
    """Measure a network on its images.

    Args:
      subject: the network.
      settings: how much is measured.
      busy: shows what is under way.

    Returns:
      `images` that errors are of; `errors` under shifts by part; `symmetry_errors`;
      `every_shift` where it was measured; `lie_derivative`; `predicted` images, and of
      these `agreement`, and `accuracy` of trained weights.
    """
    title = f"{subject.row}, {subject.weights}, {subject.name}"
    with busy(f"{title}: relative errors"):
        forward = Forward(subject.model, subject.load())
        images = subject.first_images(settings.images)
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
    return Measured(subject.row, subject.name, subject.weights, values)


def costs(subjects: Sequence[Subject], settings: Settings) -> dict[str, dict]:
    """Return parameters, MACs and milliseconds of each row's first network.

    The forward passes take turns, so that what else the machine does hits all alike.
    """
    rows: dict[str, Subject] = {}
    for subject in subjects:
        rows.setdefault(subject.row, subject)
    programs = {}
    for row, subject in rows.items():
        forward = Forward(subject.model, subject.load())
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
