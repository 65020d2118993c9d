"""Measure the requested networks; print and write the results."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from hybrid_jax.console import Reporter
from hybrid_jax.equivariance import networks, report
from hybrid_jax.equivariance.measure import Settings, costs, measure
from hybrid_jax.errors import UserError
from hybrid_jax.evaluation.report import make_folder


def compare(
    settings: Settings,
    folder: Path,
    *,
    model: str = "",
    workdirs: Sequence[str] = (),
    fields: dict[str, Any],
    checkpoint: str = "",
    weights: Sequence[str] = (networks.TRAINED, networks.RANDOM),
) -> list[report.Row]:
    """Measure a model and its variants, or runs; print and write the results.

    Args:
      settings: how much is measured.
      folder: gets JSON, CSV and a figure.
      model: name of the model; empty measures runs.
      workdirs: folders of the runs.
      fields: other arguments of `create_model`; or, of runs, values of free fields.
      checkpoint: which weights of the runs, see `load_run`.
      weights: kinds of weights of the runs, see `networks.runs_of`.

    Returns:
      The rows of the tables.

    Raises:
      UserError: there is no such model or run, its images are not there, its logits are
        not finite, or the folder cannot be written.
    """
    # Arrays that are made before double precision is enabled would stay in float32.
    with _precision(settings.precision), Reporter() as console:
        dtype = jnp.dtype(settings.precision)
        with console.busy("opening"):
            if model:
                found = networks.variants_of(
                    model, fields, settings.images, dtype, settings.seed
                )
            else:
                found = networks.runs_of(workdirs, checkpoint, fields, weights, dtype)
        make_folder(folder)
        measured = [measure(each, settings, console.busy) for each in found.subjects]
        with console.busy("timing"):
            rows = report.rows_of(measured, costs(found.subjects, settings))
        notes = [*found.notes, *_unmeasured(found.subjects, settings)]
        report.show(rows, console)
        for note in dict.fromkeys(notes):
            console.say(note)
        report.write(rows, dataclasses.asdict(settings), notes, folder)
        console.say(f"Written: {folder}")
    return rows


def _precision(name: str) -> contextlib.AbstractContextManager:
    if name == "float64":
        doubled: contextlib.AbstractContextManager = jax.enable_x64(True)
        return doubled
    return contextlib.nullcontext()


def _unmeasured(subjects: Sequence[networks.Subject], settings: Settings) -> list[str]:
    """Return a note for each network of which not all cyclic shifts were measured."""
    return [
        f"{subject.row}: not all of the {height * width:,} cyclic shifts were "
        "measured; --every-shift=1 measures them for one image"
        for subject in subjects
        for height, width in [subject.model.image_size]
        if settings.every_shift is None
        if not settings.shifted_images((height, width))
    ]


def check_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields of a config as arguments of `create_model`.

    Args:
      fields: values by name, such as `model.padding`.

    Raises:
      UserError: a field is not one of the model.
    """
    found = {}
    for name, value in fields.items():
        group, _, leaf = name.rpartition(".")
        if name == "data.image_size":
            if value:
                found["image_size"] = tuple(map(int, value))
        elif group == "model" and leaf != "name":
            found[leaf] = value
        else:
            raise UserError(
                f"--config.{name} has no effect on a model without a run: give fields "
                "of config.model and config.data.image_size"
            )
    return found
