"""The labeled images that a run is asked to evaluate, as a split of its classes."""

import os
import typing
from typing import Any

from hybrid_jax import data
from hybrid_jax.data.lazy_images import Files
from hybrid_jax.data.sources import new_images
from hybrid_jax.data.sources.arrays import to_pixel_format
from hybrid_jax.data.sources.given_images import Pictures, as_new_images
from hybrid_jax.data.sources.label_checks import encode_labels
from hybrid_jax.errors import UserError, escape, plural

if typing.TYPE_CHECKING:
    from hybrid_jax.runs.run import Run


def given_split(run: "Run", images: Any, labels: Any = None) -> data.Split:
    """Return a run's split by its name, or a split of labeled images.

    Args:
      run: the run, which knows its classes and its pixel format.
      images: the name of a split; a split; or images as `Run.predict` takes them.
      labels: class names `[N]` of such images; otherwise None.

    Raises:
      UserError: there is no such split, its classes are not those of the run, or images
        and labels do not fit.
    """
    if isinstance(images, str | data.Split) and labels is not None:
        name = repr(images) if isinstance(images, str) else "given here"
        raise UserError(f"the split {name} has its own labels: leave labels out")
    if isinstance(images, str):
        return run.get_split(images)
    if isinstance(images, data.Split):
        _check_split(run, images)
        return images
    if isinstance(images, os.PathLike):
        raise UserError(
            f"{escape(images)} is one path: run.open_images(path) opens a folder or a "
            "table, for run.evaluate"
        )
    if labels is None:
        raise UserError("labels are missing: give one for each image")
    images = as_new_images(images, run.form)
    labels = encode_labels(labels, run.classes, "")
    if len(labels) != len(images):
        raise UserError(
            f"there are {len(labels)} labels for {len(images)} images: give one "
            "for each"
        )
    if isinstance(images, Files | Pictures):
        loader = run.config.data.loader
        return new_images.label_images(images, labels, run.form, run.classes, loader)
    images, extents = to_pixel_format(images, new_images.with_canvas(run.form))
    return data.Split(images, labels, extents, classes=run.classes)


def _check_split(run: "Run", split: data.Split) -> None:
    """Refuse a split whose labels or channels mean something else to the run.

    Raises:
      UserError: names the difference.
    """
    way_out = "open its images with run.open_images(...)"
    if split.shape[-1] != run.form.channels:
        raise UserError(
            f"the split has images of {plural(split.shape[-1], 'channel')}, and the "
            f"run's have {run.form.channels}: {way_out}"
        )
    if split.classes and split.classes != run.classes:
        raise UserError(
            f"the split's classes ({_in_short(split.classes)}) are not the run's "
            f"({_in_short(run.classes)}), so its labels mean others: {way_out}"
        )
    if len(split) and not 0 <= split.labels.min() <= split.labels.max() < len(
        run.classes
    ):
        raise UserError(
            f"the split has labels from {split.labels.min()} to {split.labels.max()}, "
            f"but the run has {len(run.classes)} classes: {way_out}"
        )


def _in_short(classes: tuple[str, ...]) -> str:
    if len(classes) <= 2:
        return ", ".join(map(repr, classes))
    return f"{classes[0]!r}, ..., {classes[-1]!r}: {len(classes)}"
