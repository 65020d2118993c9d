"""Predict the classes of image files with a trained run, and write a row for each."""

import collections
import contextlib
import fcntl
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

import numpy as np
from rich.progress import track

from hybrid_jax.data.sources import found_files, new_images
from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.paths import check_given_once, check_parent, expand_user
from hybrid_jax.prediction.ensemble import open_member, predict_together
from hybrid_jax.prediction.rows import (
    CHECKED,
    FORMATS,
    Asked,
    Judgment,
    Rows,
    Written,
)
from hybrid_jax.runs import temperature, validation_scores
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import open_run
from hybrid_jax.runs.prediction import Prediction
from hybrid_jax.runs.run import Run

# How much the probabilities of one network may differ between devices and batches, on
# average over the images that it is least sure of. GPUs multiply float32 in TF32.
SAME = {"float32": 2e-3, "bfloat16": 1e-2}


def predict(
    workdir: str,
    images: Sequence[str],
    output: str = "",
    resume: bool = False,
    top: int = 0,
    calibrated: bool = False,
    coverage: float | None = None,
    typicality: bool = False,
    checkpoint: str | int | None = None,
    views: bool = False,
    ensemble: Sequence[str] = (),
    batch_size: int = 256,
) -> int:
    """Write a row for each image.

    Args:
      workdir: folder of the run; nothing is written to it.
      images: files, folders (all images below them), or patterns.
      output: a `.csv` or `.jsonl` file; empty means CSV on standard output.
      resume: continue a file that an earlier call began.
      top: how many of the most probable classes to write; 0 writes all classes, in the
        order of the run.
      calibrated: divide log probabilities by the temperature that validation chose.
      coverage: write prediction sets of this coverage, see `conformal`; None for none.
      typicality: write how much an image looks like any of the classes.
      checkpoint: see `load_run`; None takes the tested weights.
      views: average over the views of each image, see `load_run`.
      ensemble: folders of more runs; their probabilities, by their tested weights, are
        averaged with those of `workdir`.
      batch_size: images at a time.

    Returns:
      The number of images that cannot be read; their rows give the error.

    Raises:
      UserError: there is no such run or image, the output cannot be written, the run
        lacks what is asked for, or runs have other classes or are given twice.
    """
    target, asked = _check_output(output, resume), Asked(coverage, typicality)
    is_judged = calibrated or asked != Asked()
    run, *_ = runs = _open_runs(workdir, checkpoint, views, ensemble, is_judged)
    rows = FORMATS[target.suffix if target else ".csv"](run.classes, top, asked)
    paths = _find_files(images)
    judge = Judge(runs, asked, temperature.require(run) if calibrated else 1.0)
    _print_notes(runs, calibrated, asked)
    with _open(target, resume) as file:
        done = _read_done(rows, target, paths)
        again, missing, unreadable = done.partition(paths)
        predictions = judge.predict_files([*again, *missing], batch_size)
        count = len(again) + len(missing)
        shown = iter(_with_progress(predictions, count, bool(target)))
        if target:
            _check_same(target, rows, done, runs, itertools.islice(shown, len(again)))
            file.truncate(done.size)  # a line that was cut off; not of another file
        if not done.size:
            file.write(rows.header())
        more_unreadable, tally = _write(rows, shown, file)
    _report(tally, unreadable + more_unreadable, len(paths), target)
    return unreadable + more_unreadable


def _open_runs(
    workdir: str,
    checkpoint: str | int | None,
    views: bool,
    ensemble: Sequence[str],
    is_judged: bool,
) -> list[Run]:
    """Open the run, and then the members of its ensemble; arguments as in `predict`.

    Raises:
      UserError: validation images judge the predictions, and there are several runs;
        or see `predict`.
    """
    if ensemble and is_judged:
        raise UserError(
            "--calibrated, --coverage and --typicality are of a single run: leave them "
            "or --ensemble out"
        )
    check_given_once([workdir, *ensemble])
    run = open_run(RunFolder(workdir), checkpoint, {}, views)
    return [run, *(open_member(run, member) for member in ensemble)]


def _print_notes(runs: Sequence[Run], calibrated: bool, asked: Asked) -> None:
    """Print what was skipped to open the runs, and what judgments rest on."""
    notes = [*dict.fromkeys(note for run in runs for note in run.notes)]
    if calibrated:
        notes += temperature.notes(runs[0])
    if asked != Asked():
        notes += validation_scores.notes(runs[0])
    for note in notes:
        print(escape(note), file=sys.stderr)


class _Counts(NamedTuple):
    """Counts of unreadable images, and of those that differ from the run's."""

    unreadable: int
    tally: new_images.Tally


def _write(
    rows: Rows, shown: Iterable[tuple[Prediction, Judgment]], file: TextIO
) -> _Counts:
    """Write a row for each prediction, and count what is to be reported."""
    unreadable, tally = 0, new_images.Tally()
    for prediction, judgment in shown:
        file.write(rows.format(prediction, judgment))
        unreadable += bool(prediction.error)
        tally.add(prediction.path, prediction.differences)
    return _Counts(unreadable, tally)


def _find_files(images: Sequence[str]) -> list[Path]:
    """Return the files of `images`, each of which has its own name in the table.

    Raises:
      UserError: nothing is found, or a byte of one name is written as the text that
        another name holds.
    """
    paths = found_files.find_files(images)
    for name, count in collections.Counter(map(escape, paths)).items():
        if count > 1:
            raise UserError(
                f"{count} files would be written as {name}, since a name holds a byte "
                "that is no UTF-8: rename one of them"
            )
    return paths


def _report(
    tally: new_images.Tally, unreadable: int, count: int, target: Path | None
) -> None:
    """Print how images differ from the run's, what cannot be read, and what is written.

    Standard output has the rows themselves if there is no file.
    """
    for note in tally.notes():
        print(note, file=sys.stderr)
    if unreadable:
        print(
            f"{unreadable:,} of {plural(count, 'image')} cannot be read: see the "
            "column error",
            file=sys.stderr,
        )
    if target:
        print(f"Written: {escape(target)}, {plural(count, 'row')}")


class Judge:
    """A predictor of image files, which judges predictions by validation images."""

    def __init__(self, runs: Sequence[Run], asked: Asked, temperature: float):
        """Load the scores of the validation images, if they are needed.

        Args:
          runs: the run; or several, whose probabilities are averaged.
          asked: what to write besides probabilities; nothing if there are several runs.
          temperature: divides the log probabilities of a single run.

        Raises:
          UserError: there are no validation images, or too few for the coverage.
        """
        self._runs, self._asked, self._temperature = runs, asked, temperature
        if asked.coverage is not None or asked.typicality:
            self._validation = runs[0].conformal
        if asked.coverage is not None:
            self._validation.least_probability(asked.coverage, temperature)

    def predict_files(
        self, paths: Sequence[Path], batch_size: int
    ) -> Iterator[tuple[Prediction, Judgment]]:
        """Yield the prediction of each file, and its judgment."""
        run, *others = self._runs
        if others:
            for prediction in predict_together(self._runs, paths, batch_size):
                yield prediction, Judgment()
            return
        found = run.predict_with_scores(paths, batch_size, self._temperature)
        for predictions, scores in found:
            yield from zip(predictions, self._judge(scores), strict=True)

    def _judge(self, scores: np.ndarray) -> list[Judgment]:
        coverage, typicality = self._asked
        sets: Sequence = [None] * len(scores)
        shares: Sequence = sets
        if coverage is not None:
            sets = [*self._validation.sets(scores, coverage, self._temperature)]
        if typicality:
            shares = self._validation.typicality(scores).tolist()
        return [*map(Judgment, sets, shares)]


def _read_done(rows: Rows, target: Path | None, paths: Sequence[Path]) -> Written:
    """Return what the output file already holds.

    Raises:
      UserError: the file holds something else, or too few of its images are given to
        tell which network wrote it.
    """
    if target is None or not target.exists():
        return Written({}, {})
    done = rows.read(target, {*map(escape, paths)})
    if len(done.least_sure) < min(CHECKED, done.predicted):
        raise _unchecked(target, len(done.least_sure), done, "are among these images")
    if done.errors:
        print(f"Resuming after {plural(len(done.errors), 'image')}", file=sys.stderr)
    if failed := sum(done.errors.values()):
        print(
            f"{failed:,} of them could not be read, and are not tried again: to try "
            f"them, delete their rows from {escape(target)}",
            file=sys.stderr,
        )
    return done


def _check_same(
    target: Path,
    rows: Rows,
    done: Written,
    runs: Sequence[Run],
    again: Iterable[tuple[Prediction, Judgment]],
) -> None:
    """Refuse to continue a file that another network or other flags wrote.

    Args:
      target: the file.
      rows: its format.
      done: its content.
      runs: runs of this call.
      again: their predictions of the images that the file is least sure of.

    Raises:
      UserError: the images have other probabilities now, or none can be read any more.
    """
    differences = [
        _difference(
            done.least_sure[escape(prediction.path)],
            rows.numbers(rows.format(prediction, judgment)),
        )
        for prediction, judgment in again
        if not prediction.error
    ]
    if done.least_sure and not differences:
        raise _unchecked(target, 0, done, "can still be read")
    same = max(SAME[run.config.dtype] for run in runs)
    if differences and not np.mean(differences) <= same:  # nor NaN
        raise UserError(
            f"--output={escape(target)} has other probabilities for the "
            f"{plural(len(differences), 'image')} that it is least sure of: another "
            "run or checkpoint wrote it, or the flags differ; repeat the earlier call, "
            "or give another file"
        )


def _difference(written: Sequence[float], found: Sequence[float]) -> float:
    """Return the largest difference of two rows; infinity if they are not alike."""
    if len(written) != len(found):
        return np.inf
    return float(np.abs(np.subtract(written, found)).max())


def _unchecked(target: Path, count: int, done: Written, what: str) -> UserError:
    """Return the error about a file of which too few images are there."""
    least = min(CHECKED, done.predicted)
    return UserError(
        f"--output={escape(target)} has {plural(done.predicted, 'prediction')}, and "
        f"the images of {count:,} {what}: to check that the same network wrote it, "
        f"give at least {least} of its images, too; or give another file"
    )


def _with_progress(
    predictions: Iterator[tuple[Prediction, Judgment]], count: int, is_shown: bool
) -> Iterable[tuple[Prediction, Judgment]]:
    return track(
        predictions,
        f"predicting {plural(count, 'image')}",
        total=count,
        transient=True,
        disable=not (is_shown and sys.stderr.isatty()),
    )


def _check_output(output: str, resume: bool) -> Path | None:
    """Return the file to write to; None for standard output.

    Raises:
      UserError: the file has another suffix, is a folder, lies in no folder, or exists.
    """
    if not output:
        if resume:
            raise UserError("--resume continues a file: give --output=FILE")
        return None
    path = expand_user(output)
    if path.is_dir():
        raise UserError(f"--output={escape(path)} is a folder: give a file to write")
    check_parent(path, "--output=")
    if path.suffix not in FORMATS:
        raise UserError(f"--output={escape(path)} must end with {' or '.join(FORMATS)}")
    if path.exists() and not resume:
        raise _exists(path)
    return path


def _exists(path: Path) -> UserError:
    return UserError(
        f"--output={escape(path)} exists: add --resume to continue it, or give another "
        "file"
    )


@contextlib.contextmanager
def _open(path: Path | None, resume: bool) -> Iterator[TextIO]:
    """Open the file to append to and lock it, or yield standard output.

    Raises:
      UserError: the file cannot be written, or another command has made it meanwhile or
        is writing it.
    """
    if path is None:
        yield sys.stdout
        return
    try:
        # A byte of a path that is not UTF-8 was escaped before.
        mode: Literal["a", "x"] = "a" if resume else "x"
        with path.open(mode, encoding="utf-8", newline="") as file:
            _lock(file, path)
            yield file
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        if error.filename not in (None, str(path)):  # of another file
            raise
        way_out = "mend that, and continue with --resume" if path.exists() else ""
        said = ": ".join(filter(None, [error.strerror, way_out]))
        raise UserError(f"--output={escape(path)}: {said}") from None


def _lock(file: TextIO, path: Path) -> None:
    """Lock a file until it is closed, on a file system that has locks.

    Raises:
      UserError: another command holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"--output={escape(path)} is being written by another command: wait for "
            "its end, or give another file"
        ) from None
    except OSError:
        return
