"""Predict the classes of image files with a trained run, and write a row for each."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.progress import track

from hybrid_jax.data.sources import new_images
from hybrid_jax.engine.load_run import load_run
from hybrid_jax.engine.prediction_rows import FORMATS
from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.paths import expand_user


def predict(
    workdir: str,
    images: Sequence[str],
    output: str = "",
    resume: bool = False,
    top: int = 0,
    calibrated: bool = False,
    checkpoint: str | int | None = None,
    batch_size: int = 256,
) -> int:
    """Write a row for each image.

    Args:
      workdir: folder of the run; nothing is written to it.
      images: files, folders with all images in them, or patterns.
      output: a `.csv` or `.jsonl` file; empty means CSV on the standard output.
      resume: go on with a file that an earlier call has begun.
      top: how many of the likeliest classes to write; 0 writes all of them, in their
        order.
      calibrated: divide logits by the temperature that validation chose.
      checkpoint: `best` on validation, `last`, a step, or None for the tested one.
      batch_size: images at a time.

    Returns:
      The number of images that cannot be read. Their rows have the error.

    Raises:
      UserError: there is no such run or image, the file exists or cannot be written,
        or the run has no temperature.
    """
    path = _check_output(output, resume)
    run = load_run(workdir, checkpoint)
    temperature = run.require_temperature() if calibrated else 1.0
    rows = FORMATS[path.suffix if path else ".csv"](run.classes, top)
    paths = new_images.find_files(images)
    done, unreadable = rows.read(path) if path and path.exists() else {}, 0
    for note in run.notes:
        print(escape(note), file=sys.stderr)
    if done:
        print(f"Resuming after {plural(len(done), 'image')}", file=sys.stderr)
    missing = [path for path in paths if escape(path) not in done]
    unreadable = sum(done.get(escape(path), False) for path in paths)
    with _open(path) as file:
        if not done:
            file.write(rows.header())
        predictions = track(
            run.predict_files(missing, batch_size, temperature),
            f"predicting {plural(len(missing), 'image')}",
            total=len(missing),
            transient=True,
            disable=not (output and sys.stderr.isatty()),
        )
        for prediction in predictions:
            file.write(rows.format(prediction))
            unreadable += bool(prediction.error)
    if unreadable:
        print(
            f"{unreadable:,} of {plural(len(paths), 'image')} cannot be read: see the "
            "column error",
            file=sys.stderr,
        )
    return unreadable


def _check_output(output: str, resume: bool) -> Path | None:
    """Return the file to write to; None is the standard output.

    Raises:
      UserError: it has another ending, is a folder, lies in none, or exists already.
    """
    if not output:
        if resume:
            raise UserError("--resume goes on with a file: give --output=FILE")
        return None
    path = expand_user(output)
    if path.is_dir() or not path.parent.is_dir():
        problem = (
            "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        )
        raise UserError(f"--output={escape(path)} {problem}: give a file to write")
    if path.suffix not in FORMATS:
        raise UserError(
            f"--output={escape(path)} ends with neither of {', '.join(FORMATS)}"
        )
    if path.exists() and not resume:
        raise UserError(
            f"--output={escape(path)} exists: add --resume to go on with it, or give "
            "another file"
        )
    return path


@contextlib.contextmanager
def _open(path: Path | None) -> Iterator[TextIO]:
    """Open the file to add to, or yield the standard output.

    Raises:
      UserError: the file cannot be written.
    """
    if path is None:
        yield sys.stdout
        return
    try:
        # A byte of a path that is not UTF-8 was escaped before.
        with path.open("a", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise UserError(f"--output={escape(path)}: {error.strerror}") from None
