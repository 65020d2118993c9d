"""What a finished run says of image files, as a table."""

import contextlib
import csv
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.progress import track

from hybrid_jax.data.sources import new_images
from hybrid_jax.engine.run import Prediction, load_run
from hybrid_jax.errors import UserError, counted, shown
from hybrid_jax.paths import expanded

COLUMNS = ("path", "class", "probability", "error")


def predict(
    workdir: str,
    images: Sequence[str],
    output: str = "",
    checkpoint: str | int | None = None,
    batch_size: int = 256,
) -> int:
    """Writes a line of a table for each image, as it comes.

    Args:
      workdir: the run's folder; nothing is written to it.
      images: files, folders with all that they hold, or patterns.
      output: a `.csv` file; empty is the standard output.
      checkpoint: see `load_run`.
      batch_size: images at a time.

    Returns:
      How many images cannot be read; each of them has its error in the table.

    Raises:
      UserError: no run there, no such images, or the table cannot be written.
    """
    run = load_run(workdir, checkpoint)
    paths, unread = new_images.find_files(images), 0
    for note in run.notes:
        print(shown(note), file=sys.stderr)
    with _opened(output) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*COLUMNS, *run.classes])
        found = track(
            run.predict_files(paths, batch_size),
            f"predicting {counted(len(paths), 'image')}",
            total=len(paths),
            transient=True,
            disable=not (output and sys.stderr.isatty()),
        )
        for prediction in found:
            table.writerow(_row(prediction, run.classes))
            unread += bool(prediction.error)
    if unread:
        print(
            f"{counted(unread, 'image')} of {len(paths):,} cannot be read: see the "
            "column error",
            file=sys.stderr,
        )
    return unread


@contextlib.contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    """The table to write to.

    Raises:
      UserError: there is no such folder.
    """
    if not output:
        yield sys.stdout
        return
    path = expanded(output)
    if path.is_dir() or not path.parent.is_dir():
        where = "is a folder" if path.is_dir() else "lies in a folder that is not there"
        raise UserError(f"--output={shown(path)} {where}: give a file to write")
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        yield file


def _row(prediction: Prediction, classes: Sequence[str]) -> list[str]:
    """A row of the table, `COLUMNS` and a probability for each class."""
    path, probabilities, error = prediction
    if probabilities is None:
        return [shown(path), "", "", error, *[""] * len(classes)]
    best = int(probabilities.argmax())
    numbers = [f"{p:.6f}" for p in probabilities]
    return [shown(path), classes[best], numbers[best], "", *numbers]
