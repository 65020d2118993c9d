"""Store the scores of a run's validation images in its folder.

validation.npz holds three arrays: `scores` float32 `[n, C]`, `labels` int32 `[n]`, and
`step`, of the checkpoint that was tested. Scores of other checkpoints, and those of
runs without the file, are computed from the validation images if they are available.
"""

import contextlib
import typing
import zipfile
import zlib
from pathlib import Path

import numpy as np

from hybrid_jax.errors import UserError, first_line, plural, report_out_of_memory
from hybrid_jax.json_files import read_json
from hybrid_jax.paths import replacing
from hybrid_jax.runs import same_run
from hybrid_jax.runs.conformal import Conformal
from hybrid_jax.runs.stored_data import GROUPS

if typing.TYPE_CHECKING:
    from hybrid_jax.runs.run import Run

FILE = "validation.npz"


def find(run: "Run") -> Conformal:
    """Return the scores of a run's validation images, read from its file or computed.

    A file that cannot be read is noted in `run.notes`.

    Raises:
      UserError: there is no validation split, its images are not available, or another
        run has taken the place of this one.
    """
    where = run.workdir or "this run"
    lacking = f"{where} keeps no scores of validation images for {run.weights_in_words}"
    try:
        kept = _read(run)
    except ValueError as error:
        kept, lacking = None, str(error)
        run.notes.append(f"{lacking}: computing scores of the validation images")
    if kept:
        return kept
    tested = (run.results or {}).get("checkpoint", run.checkpoint)
    way_out = "repeat the command that trained it, where its images are"
    if tested != run.checkpoint:
        way_out = f"take the weights of step {tested:,}, which were tested"
    if run.has_views:
        way_out = "put the validation images back, or leave --views out"
    try:
        return _compute(run)
    except _NoValidation:
        raise UserError(
            f"{where} has no validation split, which prediction sets and typicality "
            "need: train with config.data.validation=0.1, or leave --coverage and "
            "--typicality out"
        ) from None
    except UserError as error:
        raise UserError(
            f"{lacking}, and they cannot be computed ({error}): {way_out}, or "
            "leave --coverage and --typicality out"
        ) from None


def keep(run: "Run", *, anew: bool) -> list[str]:
    """Write the scores of a run that has ended, unless they are stored already.

    Nothing is written for a run without a folder or without validation images. An error
    becomes a note, since the run itself is complete.

    Args:
      run: run of a single process, with its images.
      anew: whether an existing file is of an earlier run, and is replaced.

    Returns:
      Notes that say why nothing could be written.
    """
    if run.workdir is None:
        return []
    path = run.workdir / FILE
    try:
        if anew:
            path.unlink(missing_ok=True)
        with contextlib.suppress(ValueError):  # a damaged file is replaced
            if _read(run):
                return []
        with report_out_of_memory():
            _write(path, run, _compute(run))
    except _NoValidation:
        pass
    except (UserError, OSError) as error:
        return [
            f"{path} was not written ({first_line(error)}): prediction sets and "
            "typicality will need the validation images"
        ]
    return []


def notes(run: "Run") -> list[str]:
    """Return what limits the promises of `conformal` if validation images have groups.

    Return nothing for a run without a folder.
    """
    if run.workdir is None:
        return []
    stored = read_json(run.workdir / "data.json").get(GROUPS, {})
    if "validation" not in stored:
        return []
    return [
        f"the validation images are of {plural(stored['validation'], 'group')}: the "
        "coverage of sets and the p-values of typicality hold for more images of these "
        "groups, not for those of other groups"
    ]


class _NoValidation(UserError):
    """The error of a run without a validation split."""


def _compute(run: "Run") -> Conformal:
    """Run the network on the validation images.

    Raises:
      _NoValidation: the run has no validation split.
      UserError: the images are not available.
    """
    if "validation" not in run.splits:
        raise _NoValidation
    split = run.splits["validation"]
    return Conformal(run.scores(split), np.asarray(split.labels, np.int32))


def _write(path: Path, run: "Run", scored: Conformal) -> None:
    """Replace the file at once, see `replacing`.

    Raises:
      OSError: the file cannot be written.
    """
    with replacing(path) as scratch, scratch.open("wb") as file:
        step = np.array(run.checkpoint)
        np.savez(file, scores=scored.scores, labels=scored.labels, step=step)


def _read(run: "Run") -> Conformal | None:
    """Return the stored scores; None if there are none of this checkpoint or of views.

    Raises:
      ValueError: the file is damaged, or is of another network.
      UserError: another run has taken the place of this one.
    """
    path = run.workdir / FILE if run.workdir else None
    if path is None or not path.exists() or run.has_views:
        return None
    same_run.check(run)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            step = int(file["step"])
            scores = file["scores"].astype(np.float32, casting="same_kind")
            labels = file["labels"].astype(np.int32, casting="same_kind")
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"{path} cannot be read ({first_line(error)})") from None
    classes = len(run.classes)
    if (
        labels.ndim != 1
        or scores.shape != (len(labels), classes)
        or not len(labels)
        or not np.isfinite(scores).all()
        or not (0 <= labels.min() <= labels.max() < classes)
    ):
        raise ValueError(f"{path} holds no scores of {classes} classes")
    return Conformal(scores, labels) if step == run.checkpoint else None
