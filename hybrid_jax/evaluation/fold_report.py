"""Report of cross-validation: measures over folds and images, and doubtful labels.

The runs of two folds share training images, so the interval over folds is approximate
(Bengio & Grandvalet 2004, No unbiased estimator of the variance of K-fold
cross-validation).
"""

import dataclasses
import hashlib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.evaluation import mislabeled, out_of_fold
from hybrid_jax.evaluation.bootstrap import Estimate, estimate
from hybrid_jax.evaluation.measures import MEASURES, measure, names_for
from hybrid_jax.evaluation.out_of_fold import OutOfFold
from hybrid_jax.evaluation.report import count_groups, missing_intervals, number
from hybrid_jax.evaluation.report import interval as interval_in_words
from hybrid_jax.intervals import in_words, interval, mean, share_interval
from hybrid_jax.json_files import read_json, write_json
from hybrid_jax.paths import replacing
from hybrid_jax.runtime import source_version

if typing.TYPE_CHECKING:
    from rich.table import Table

JSON = "out_of_fold.json"
DIGEST = "out_of_fold_sha256"  # there: of the table as it was written


class Console(typing.Protocol):
    """A printer of lines and tables."""

    def say(self, text: str) -> None: ...

    def show(self, shown: Any) -> None: ...


class Judged(NamedTuple):
    """A measure of out-of-fold predictions.

    Attributes:
      folds: its value on each fold.
      pooled: its value on all images together, with its interval.
    """

    folds: list[float]
    pooled: Estimate

    def to_json(self, name: str) -> dict[str, Any]:
        """Return the measure of a name, and its mean over folds with an interval."""
        found = share_interval if MEASURES[name].is_share else interval
        return {
            "mean": mean(self.folds),
            "interval_95": found(self.folds),
            "folds": self.folds,
            "pooled": self.pooled._asdict(),
        }


def report(
    folder: Path, runs: Mapping[Path, int], about: dict[str, Any], console: Console
) -> None:
    """Predict what each fold left out, judge it, and look for labels to check.

    Complete predictions of these runs are read from `folder` instead. Only one process
    at a time may write to a folder.

    Args:
      folder: to write to.
      runs: the fold of each run's folder, see `out_of_fold.predict`.
      about: identifies these runs among others that `folder` may hold, fit for JSON.
      console: prints.

    Raises:
      UserError: nothing can be predicted, or the table there was changed.
    """
    found = _read(folder, runs, about)
    if found is None:
        found = out_of_fold.predict(runs, console.say)
        for name in (mislabeled.CSV, mislabeled.PNG):  # written for other runs
            (folder / name).unlink(missing_ok=True)
        (folder / JSON).unlink(missing_ok=True)  # it describes the table
        out_of_fold.write_csv(found, table := folder / out_of_fold.CSV)
        judged = judge(found)
        digest = {DIGEST: _digest(table.read_bytes())}
        write_json(folder / JSON, _as_json(found, judged, about, runs) | digest)
    else:
        judged = judge(found)
    for note in (*found.data_notes, *found.notes):
        console.say(note)
    folds = len({*found.folds.tolist()})
    seeds = len(runs) // len({*runs.values()})
    title = f"Out-of-fold predictions of {plural(len(found), 'image')}, "
    title += plural(folds, "fold")
    title += f", the mean of {seeds} seeds" if seeds > 1 else ""
    console.show(_table(title, judged))
    if groups := count_groups(found.predictions):
        console.say(f"Intervals of all images are over {plural(groups, 'group')}")
    if note := missing_intervals(found.predictions, found.classes):
        console.say(f"Left out: {note}")
    console.say(f"All predictions: {folder / out_of_fold.CSV}")
    _show_labels_to_check(folder, next(iter(runs)), found, console.say)


def judge(found: OutOfFold) -> dict[str, Judged]:
    """Return every measure by name, on each fold and on all images together."""
    names = names_for(found.predictions)
    folds, pooled = [*found.by_fold()], estimate(found.predictions, names)
    return {
        name: Judged([measure(fold, name) for fold in folds], pooled[name])
        for name in names
    }


def _read(
    folder: Path, runs: Mapping[Path, int], about: dict[str, Any]
) -> OutOfFold | None:
    """Read predictions of these runs; None unless they are complete.

    Raises:
      UserError: the table is not as it was written: it may be the user's work by now.
    """
    table = folder / out_of_fold.CSV
    try:
        known, content = read_json(folder / JSON), table.read_bytes()
    except (UserError, OSError):
        return None
    if known.get(DIGEST, _digest(content)) != _digest(content):
        raise UserError(
            f"{escape(table)} was changed since it was written: move it elsewhere, so "
            "that it can be written again"
        )
    try:
        found = out_of_fold.read_csv(table)
        notes = tuple(map(str, known["data"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    expected = _identity(about, runs) | {"images": len(found), "missing": []}
    if any(known.get(name) != value for name, value in expected.items()):
        return None
    return dataclasses.replace(found, data_notes=notes)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _identity(about: dict[str, Any], runs: Mapping[Path, int]) -> dict[str, Any]:
    return about | {"runs": [path.name for path in runs]}


def _as_json(
    found: OutOfFold,
    judged: Mapping[str, Judged],
    about: dict[str, Any],
    runs: Mapping[Path, int],
) -> dict[str, Any]:
    return _identity(about, runs) | {
        "images": len(found),
        "groups": count_groups(found.predictions),
        "data": [*found.data_notes],
        "missing": [*found.notes],
        "measures": {name: row.to_json(name) for name, row in judged.items()},
        "hybrid_jax": source_version(),
    }


def _table(title: str, judged: Mapping[str, Judged]) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for name in ("mean of folds", "all images", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, (folds, pooled) in judged.items():
        value = number(name, pooled.value)
        over_folds = _over_folds(name, folds)
        ends = interval_in_words(name, pooled)
        table.add_row(MEASURES[name].title, over_folds, value, ends)
    return table


def _over_folds(name: str, values: list[float]) -> str:
    """Return a mean with its interval by Student's t, such as `97.31 % ± 0.40`."""
    if MEASURES[name].is_share:
        return in_words(values)
    ends, text = interval(values), number(name, mean(values))
    return text if ends is None else f"{text} ± {(ends[1] - ends[0]) / 2:.4f}"


def _show_labels_to_check(
    folder: Path, run_folder: Path, found: OutOfFold, say: Callable[[str], None]
) -> None:
    """Write and print the labels to check, or print why they are unknown."""
    try:
        suspects, notes = mislabeled.find(found.predictions, found.classes)
    except UserError as error:
        say(f"Skipping the search for labels to check: {error}")
        return
    mislabeled.write_csv(found, suspects, folder / mislabeled.CSV)
    for line in [*mislabeled.in_words(found, suspects), *notes]:
        say(line)
    say(f"All labels to check: {folder / mislabeled.CSV}")
    path = folder / mislabeled.PNG
    if not suspects or path.exists():
        return
    shown = suspects[: mislabeled.DRAWN]
    try:
        names = [found.names[each.row] for each in shown]
        images = out_of_fold.open_images(run_folder, names)
    except UserError as error:
        say(f"{mislabeled.PNG} is left out: {error}")
        return
    with replacing(path) as scratch:
        mislabeled.sheet(found, suspects, images).save(scratch, "PNG", optimize=True)
