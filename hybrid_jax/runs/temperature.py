"""The temperature that validation chose for weights, and how far to trust it."""

import numbers
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybrid_jax.errors import UserError, plural
from hybrid_jax.json_files import read_json
from hybrid_jax.runs import same_run
from hybrid_jax.training import metrics

if typing.TYPE_CHECKING:
    from hybrid_jax.runs.run import Run

SMALLEST = float(np.finfo(np.float32).tiny)  # below, a divisor in float32 may be 0
BOUNDS = metrics.COLDEST, metrics.HOTTEST  # of a fitted temperature
ENOUGH_MISTAKES = 10  # of validation images, for a temperature to rest on


def check(temperature: Any) -> float:
    """Return a temperature, if scores may be divided by it.

    Raises:
      UserError: it is no finite number above 0, or is 0 in float32, or it is None, as
        `find` returns it.
    """
    if temperature is None:
        raise UserError("these weights have no temperature: leave temperature out")
    is_number = isinstance(temperature, numbers.Real)
    if not is_number or not 0 < temperature < float("inf"):
        raise UserError(f"temperature={temperature!r} is not a number above 0")
    if temperature < SMALLEST:
        raise UserError(
            f"temperature={temperature!r} is too small: give at least {SMALLEST:.2g}"
        )
    return float(temperature)


def find(run: "Run") -> float | None:
    """Return the temperature of a run's weights, or None.

    It is None if the weights were not validated, and if no validation image is
    misclassified. With views it is None too, since `require` has to evaluate the
    validation images.
    """
    row = None if run.has_views else run.validation_metrics
    return from_metrics(row) if row else None


def from_metrics(row: Mapping[str, Any]) -> float | None:
    """Return the temperature that metrics of the validation images hold, or None.

    It is None if no image is misclassified: the smaller the temperature then is, the
    smaller is the loss.
    """
    return float(row["temperature"]) if row["accuracy"] < 1 else None


def require(run: "Run") -> float:
    """Return the temperature of a run's weights; with views, fit it.

    Raises:
      UserError: validation chose none; or there are views, and the validation images
        are not available.
    """
    try:
        row = run.validation_metrics
    except UserError as error:
        raise UserError(
            f"{run.workdir} has no temperature for {run.weights_in_words}, which its "
            f"validation images determine ({error}): leave --calibrated or --views out"
        ) from None
    chosen = from_metrics(row) if row else None
    if chosen is not None:
        return chosen
    if row:
        raise UserError(
            f"{run.workdir}: no validation image is misclassified, so they determine "
            "no temperature: leave --calibrated out, or train with more of them "
            "(config.data.validation)"
        )
    raise UserError(
        f"{run.workdir} has no temperature for {run.weights_in_words}: these weights "
        "were not validated, or an older version trained them; leave --calibrated out"
    )


def notes(run: "Run") -> list[str]:
    """Return a warning if the temperature rests on few mistakes; else nothing.

    With views, call `require` first.

    Raises:
      UserError: another run has taken the place of this one.
    """
    row = run.validation_metrics
    if row is None or run.workdir is None:
        return []
    same_run.check(run)
    images = read_json(run.workdir / "data.json").get("validation images", 0)
    mistakes = round(images * (1 - row["accuracy"]))
    if not images or mistakes >= ENOUGH_MISTAKES:
        return []
    return [
        f"the temperature {row['temperature']:.2f} rests on "
        f"{plural(images, 'validation image')} with {plural(mistakes, 'mistake')}: it "
        "may make probabilities worse; validate on more images (config.data.validation)"
    ]


def find_metrics(run: "Run") -> dict[str, Any] | None:
    """Return the metrics of a run's weights on the validation images, or None.

    They are read from the run's history. With views, the images are evaluated.

    Raises:
      UserError: there are views, but the images are not available.
    """
    if run.has_views:
        return run.evaluate("validation")
    found = [
        row
        for row in run.history
        if (row["split"], row["step"]) == ("validation", run.checkpoint)
        and "temperature" in row
    ]
    return found[-1] if found else None
