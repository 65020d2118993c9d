"""Predict the classes of image files with a trained run, and write a table."""

import contextlib
import csv
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.progress import track

from hybrid_jax.data.sources import new_images
from hybrid_jax.engine.load_run import load_run
from hybrid_jax.engine.run import Prediction
from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.paths import expand_user

COLUMNS = ("path", "class", "probability", "error")


def predict(
    workdir: str,
    images: Sequence[str],
    output: str = "",
    checkpoint: str | int | None = None,
    batch_size: int = 256,
) -> int:
    """Write a row of a table for each image.

    Args:
      workdir: folder of the run; nothing is written to it.
      images: files, folders with all images in them, or patterns.
      output: a `.csv` file; empty means the standard output.
      checkpoint: `best` on validation, `last`, a step, or None for the tested one.
      batch_size: images at a time.

    Returns:
      The number of images that cannot be read. Their rows have the error.

    Raises:
      UserError: there is no such run or image, or the table cannot be written.
    """
    run = load_run(workdir, checkpoint)
    paths, unreadable = new_images.find_files(images), 0
    for note in run.notes:
        print(escape(note), file=sys.stderr)
    with _open_table(output) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*COLUMNS, *run.classes])
        predictions = track(
            run.predict_files(paths, batch_size),
            f"predicting {plural(len(paths), 'image')}",
            total=len(paths),
            transient=True,
            disable=not (output and sys.stderr.isatty()),
        )
        for prediction in predictions:
            table.writerow(_row(prediction, run.classes))
            unreadable += bool(prediction.error)
    if unreadable:
        print(
            f"{unreadable:,} of {plural(len(paths), 'image')} cannot be read: see the "
            "column error",
            file=sys.stderr,
        )
    return unreadable


@contextlib.contextmanager
def _open_table(output: str) -> Iterator[TextIO]:
    """Open the file to write to, or yield the standard output.

    Raises:
      UserError: the path is a folder, or its folder does not exist.
    """
    if not output:
        yield sys.stdout
        return
    path = expand_user(output)
    if path.is_dir() or not path.parent.is_dir():
        problem = (
            "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        )
        raise UserError(f"--output={escape(path)} {problem}: give a file to write")
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield file


def _row(prediction: Prediction, classes: Sequence[str]) -> list[str]:
    """Return a row of the table: `COLUMNS`, and a probability for each class."""
    path, probabilities, error = prediction
    if probabilities is None:
        return [escape(path), "", "", error, *[""] * len(classes)]
    best = int(probabilities.argmax())
    numbers = [f"{p:.6f}" for p in probabilities]
    return [escape(path), classes[best], numbers[best], "", *numbers]
