"""Export a run to a file or folder, which gets its name once it is checked."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hybrid_jax.data.sources.class_folders import check_outside
from hybrid_jax.errors import UserError, escape, megabytes
from hybrid_jax.export.check import expect, largest_difference
from hybrid_jax.export.formats import Format, find_format
from hybrid_jax.parallel.signals import Interruption
from hybrid_jax.paths import check_absent, check_local, check_parent, expand_user
from hybrid_jax.runs import temperature
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import open_run
from hybrid_jax.runs.run import Run


def export_run(
    workdir: str | os.PathLike,
    format: str,
    output: str | os.PathLike,
    checkpoint: str | int | None = None,
    calibrated: bool = False,
    views: bool = False,
) -> list[str]:
    """Write a run's network for programs that do not have this package.

    Args:
      workdir: the run's folder; nothing is written to it.
      format: name of a row of `FORMATS`.
      output: file or folder to write, which does not exist yet.
      checkpoint: which weights, see `load_run`; None takes the tested ones.
      calibrated: divide log probabilities by the temperature that was fitted on
        validation images.
      views: average over the views of each image, see `load_run`.

    Returns:
      Lines of text: notes, what was written, and its difference to the run.

    Raises:
      UserError: there is no such run, format, place or temperature; a package is
        missing; the format lacks a part of the network; or the exported network gives
        other probabilities than the run.
    """
    check_local("--output", os.fspath(output))
    row, target = find_format(format), expand_user(output)
    if views and not row.takes_views:
        raise UserError(
            f"--format={format} has no place for averages over views: leave --views "
            "out, or give another format"
        )
    _check_target(target, row)
    row.require()
    with Interruption(), _scratch_folder(target) as scratch:
        run = open_run(RunFolder(workdir), checkpoint, {}, views)
        if not row.suffix:
            check_outside("--output", target, run.config.data)
        divisor = temperature.require(run) if calibrated else 1.0
        expected = expect(run, divisor)
        written = scratch / target.name
        row.write(run, written, divisor)
        reader = row.load(written, run)
        difference = largest_difference(expected, reader)
        size = sum(f.stat().st_size for f in [written, *written.rglob("*")])
        check_absent(target, "--output=")
        written.rename(target)
    return [
        *run.notes,
        *(temperature.notes(run) if calibrated else ()),
        *_dtype_note(run),
        f"{escape(target)}: {format}, {len(run.classes)} classes, "
        f"{run.weights_in_words}, {megabytes(size)}",
        f"read back by {reader.name}, its probabilities differ by {difference:.1e} at "
        f"most, on {expected.source}",
    ]


def _dtype_note(run: Run) -> list[str]:
    dtype = run.config.dtype
    return (
        []
        if dtype == "float32"
        else [f"the run computes in {dtype}, the exported network in float32"]
    )


def _check_target(target: Path, row: Format) -> None:
    """Refuse a place that cannot be written to, before anything is computed."""
    check_absent(target, "--output=")
    if row.suffix and target.suffix != row.suffix:
        raise UserError(
            f"--output={escape(target)} does not end with {row.suffix}: name such a "
            "file"
        )
    check_parent(target, "--output=")


@contextlib.contextmanager
def _scratch_folder(target: Path) -> Iterator[Path]:
    """Make a folder beside the target, to write the target in before it is renamed.

    Raises:
      UserError: the target's folder cannot be written to.
    """
    try:
        scratch = tempfile.mkdtemp(
            prefix=".hybrid_jax-export-", suffix=".tmp", dir=target.parent
        )
    except OSError as error:
        raise UserError(
            f"--output={escape(target)} cannot be written ({error.strerror}): give a "
            "place that you may write to"
        ) from None
    try:
        yield Path(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
