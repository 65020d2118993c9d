"""Evaluate runs on labeled images, alone, together or against each other."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.console import Reporter
from hybrid_jax.data import Split
from hybrid_jax.data.lazy_images import UnreadableImages
from hybrid_jax.data.sources.class_folders import check_outside
from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.evaluation import report
from hybrid_jax.evaluation.bootstrap import Estimate, estimate
from hybrid_jax.evaluation.calibration import fit_temperature
from hybrid_jax.evaluation.comparison import Comparison, compare
from hybrid_jax.evaluation.measures import names_for
from hybrid_jax.evaluation.per_class import ClassResult, per_class
from hybrid_jax.evaluation.prediction_sets import SetQuality, judge_sets
from hybrid_jax.evaluation.predictions import Predictions, average
from hybrid_jax.paths import as_texts, check_given_once, expand_user
from hybrid_jax.prediction.ensemble import open_member
from hybrid_jax.programs.experiment import set_up_process
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import open_run
from hybrid_jax.runs.run import Run
from hybrid_jax.runs.temperature import from_metrics


@dataclasses.dataclass(frozen=True)
class Images:
    """Which labeled images a run is judged on.

    Attributes:
      split: `train`, `validation` or `test`; empty means the test split, or validation
        if there is no test split; or all images of a `path` without splits.
      path: folder or table of other images; empty takes the run's own.
      on_error: `stop` at images of `path` that cannot be read, or `skip` them.
    """

    split: str = ""
    path: str = ""
    on_error: str = "stop"

    def of(self, run: Run) -> tuple[str, Split]:
        """Return the name of the split, and its images as the run sees them.

        Raises:
          UserError: there are no such images, some cannot be read, or none are named
            and there are only training images.
        """
        if self.path:
            return run.open_named_images(self.path, self.split, self.on_error)
        split = self.split or default_split(run)
        if split == "train" and not self.split:
            raise UserError(
                "this run has only training images, which say nothing about new ones: "
                "judge it on new ones (`hybrid-jax evaluate --data=DIR`), or on these "
                "(`--split=train`)"
            )
        with _only_readable(run, split):
            return split, run.get_split(split)


def default_split(run: Run) -> str:
    """Return the first split that a run has of `test`, `validation` and `train`.

    Raises:
      UserError: the run's images cannot be read.
    """
    with _only_readable(run, "test"):
        splits = run.splits
    return next(name for name in ("test", "validation", "train") if name in splits)


@contextlib.contextmanager
def _only_readable(run: Run, split: str) -> Iterator[None]:
    """Refuse a run of which some images can no longer be read.

    Raises:
      UserError: the message names the images, and a way to judge others of the split.
    """
    try:
        yield
    except UnreadableImages as error:
        # Fewer images would be other data than those that the run was trained with.
        way_out = "restore them"
        if split in error.named_splits:
            way_out += (
                f", or judge the readable {split} images (`hybrid-jax evaluate` with "
                f"--data={escape(run.config.data.path)} --split={split} "
                "--on-error=skip)"
            )
        raise UserError(f"{error.what}; {way_out}") from None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Results of one model, or of an ensemble, on labeled images.

    Attributes:
      title: model, images and step, in words.
      split: `train`, `validation` or `test`; empty for other images.
      classes: names, in the order of the labels.
      names: names of the images' files.
      predictions: of these images.
      temperature: temperature that validation images chose; None if they chose none.
      comparison: name of another model, and the comparison with it on these images.
      sets: quality of prediction sets; None unless a coverage was asked for.
    """

    title: str
    split: str
    classes: tuple[str, ...]
    names: list[str]
    predictions: Predictions
    temperature: float | None = None
    comparison: tuple[str, Comparison] | None = None
    sets: SetQuality | None = None

    @functools.cached_property
    def measures(self) -> dict[str, Estimate]:
        """Every measure that applies to this number of classes, by name."""
        return estimate(self.predictions, names_for(self.predictions))

    @functools.cached_property
    def per_class(self) -> list[ClassResult]:
        """The results of each class."""
        return per_class(self.predictions, self.classes)


def evaluate(
    workdir: str | os.PathLike,
    config: Config | None = None,
    changed: dict[str, Any] | None = None,
    checkpoint: str | int | None = None,
    images: Images = Images(),
    views: bool = False,
    ensemble: Sequence[str | os.PathLike] = (),
    versus: Sequence[str | os.PathLike] = (),
    coverage: float | None = None,
    output: str | os.PathLike = "",
) -> Evaluation:
    """Evaluate a checkpoint of a run, and print the results.

    Args:
      workdir: folder of the run; nothing is written to it.
      config: the config that the run must have; None accepts any.
      changed: values that replace those of the stored config, by field name, such as
        the path of the data. Fields that change results are refused.
      checkpoint: which weights, see `load_run`; None takes the tested ones.
      images: which images.
      views: average over the views of an image that the run's own
        `augment.symmetry` makes.
      ensemble: folders of more runs; their probabilities, by their tested weights, are
        averaged with those of `workdir`.
      versus: folders of other runs; their ensemble is compared with this one.
      coverage: coverage of prediction sets to judge, for a single run; None judges no
        sets.
      output: folder for tables and figures; empty writes none.

    Returns:
      The results.

    Raises:
      UserError: there is no such run, checkpoint or split; the run has another config,
        or no other views; images cannot be read; runs have other images or classes, or
        are given twice; there are no sets at this coverage; or the folder for tables
        cannot be written.
    """
    workdir, output = os.fspath(workdir), os.fspath(output)
    ensemble, versus = as_texts("ensemble", ensemble), as_texts("versus", versus)
    _check_runs([workdir, *ensemble], versus)
    if output:
        report.check_empty_folder(output)
    folder = RunFolder(workdir)
    if config is not None:
        changed = _free_fields(folder, config)
    run = open_run(folder, checkpoint, changed or {}, views)
    judge = _Judge(run, images, changed or {})
    if coverage is not None:
        judge.check_coverage(coverage, has_members=bool(ensemble))
    if output:
        check_outside("--output", Path(output), run.config.data)
        report.make_folder(Path(output))
    with Reporter() as console:
        with console.busy("evaluating"):
            found = _evaluate(judge, run, ensemble, versus, coverage)
        _report(found, dict.fromkeys(judge.notes()), output, console)
    return found


def _report(
    found: Evaluation, notes: Iterable[str], output: str, console: Reporter
) -> None:
    """Print notes and results, and write tables and figures if a folder is given."""
    for note in notes:
        console.say(note)
    report.show(found, console)
    if output:
        report.write(found, Path(output))
        console.say(f"Written: {output}")


def _free_fields(folder: RunFolder, config: Config) -> dict[str, Any]:
    """Return the values of a config's free fields, by name.

    Raises:
      ConfigMismatch: the run of the folder has another config.
    """
    resumed, _ = folder.resume(set_up_process(folder.own_dtype(config)))
    return {name: value for name, value in resumed.flat().items() if FIELDS[name].free}


def _check_runs(workdirs: Sequence[str], versus: Sequence[str]) -> None:
    """Refuse runs that are given twice.

    Raises:
      UserError: names them.
    """
    check_given_once(workdirs)
    check_given_once(versus)
    if _places(workdirs) == _places(versus):
        raise UserError("--versus names the same runs again: give others to compare")


def _places(workdirs: Sequence[str]) -> set[Path]:
    return {expand_user(workdir).resolve() for workdir in workdirs}


def _evaluate(
    judge: "_Judge",
    run: Run,
    ensemble: Sequence[str],
    versus: Sequence[str],
    coverage: float | None,
) -> Evaluation:
    """Return the results of a run and its ensemble, see `evaluate`."""
    predictions = judge.average([run, *map(judge.open, ensemble)])
    comparison = None
    if versus:
        others = judge.average([judge.open(path) for path in versus])
        comparison = " + ".join(versus), compare(predictions, others)
    found = judge.evaluation(predictions, comparison)
    if coverage is None:
        return found
    sets = run.conformal.sets(predictions.log_probabilities, coverage)
    quality = judge_sets(predictions, sets, coverage)
    return dataclasses.replace(found, sets=quality)


def evaluate_run(run: Run) -> Evaluation:
    """Evaluate a run alone, on its test split, or on validation if it has none.

    Raises:
      UserError: the run's images are no longer there.
    """
    judge = _Judge(run, Images(), changed={})
    return judge.evaluation(judge.average([run]))


class _Judge:
    """Predictor of the same images with several runs.

    Attributes:
      split_name, split: name and images of the first run's split.
    """

    def __init__(self, run: Run, images: Images, changed: dict[str, Any]):
        """Choose the images of a run.

        Raises:
          UserError: there are no such images.
        """
        self.split_name, self.split = images.of(run)
        self._first, self._images, self._changed = run, images, changed
        self._members: list[Run] = []
        self._opened = [run]

    def check_coverage(self, coverage: float, has_members: bool) -> None:
        """Refuse a coverage whose prediction sets cannot be judged.

        Raises:
          UserError: there are several runs; the sets would be judged on the images
            that make them; or the run has no validation images, or too few.
        """
        if has_members:
            raise UserError(
                "--coverage judges the sets of a single run: leave --ensemble out"
            )
        if self.split_name == "validation" and not self._images.path:
            raise UserError(
                "--coverage makes its sets from the validation images, which cannot "
                "judge them too: give another --split, or --data"
            )
        self._first.conformal.least_probability(coverage)

    def open(self, workdir: str) -> Run:
        """Open another run of the same classes; see `open_member`."""
        run = open_member(self._first, workdir, self._changed)
        self._opened.append(run)
        return run

    def average(self, runs: list[Run]) -> Predictions:
        """Return the mean of the runs' probabilities; remember the first call's runs.

        Raises:
          UserError: a run's split has other images.
        """
        self._members = self._members or runs
        return average([self._predict(run, self._images.of) for run in runs])

    def temperature(self) -> float | None:
        """Return the temperature that validation chooses for the first call's runs.

        It is None if the validation split itself is judged, if a run has none, or if
        the runs have different ones. A single run has the temperature of its
        evaluations, which `predict` applies. It is fitted here for several runs, and
        for weights that were not validated, such as a mean over checkpoints. For
        images of another folder, nothing is fitted, since the run's own may be gone.
        """
        images, is_single = Images("validation"), len(self._members) == 1
        if self._images.path:
            return self._members[0].temperature if is_single else None
        if self.split_name == "validation":
            return None
        if any("validation" not in run.splits for run in self._members):
            return None
        if is_single and (row := self._members[0].validation_metrics):
            return from_metrics(row)
        first = self._members[0].get_split("validation")
        if any(
            not _are_same(first, run.get_split("validation")) for run in self._members
        ):
            return None
        predictions = [self._predict(run, images.of, first) for run in self._members]
        return fit_temperature(average(predictions))

    def evaluation(
        self, predictions: Predictions, comparison: tuple[str, Comparison] | None = None
    ) -> Evaluation:
        """Return the results of the first call's runs."""
        run, others = self._first, len(self._members) - 1
        members = f", with {plural(others, 'other')}" if others else ""
        path = self._images.path
        return Evaluation(
            title=f"{run.config.model.name} on {escape(path) or run.splits.name}, "
            f"{plural(len(predictions), 'image')}, {run.weights_in_words}{members}",
            split=self.split_name,
            classes=run.classes,
            names=self.split.names,
            predictions=predictions,
            temperature=self.temperature(),
            comparison=comparison,
        )

    def notes(self) -> list[str]:
        """Return the notes of all runs, such as what was skipped to open them."""
        return [note for run in self._opened for note in run.notes]

    def _predict(
        self,
        run: Run,
        choose: Callable[[Run], tuple[str, Split]],
        expected: Split | None = None,
    ) -> Predictions:
        expected = expected or self.split
        split = expected if run is self._first else choose(run)[1]
        if not _are_same(split, expected):
            raise UserError(
                f"{run.workdir} has other images in its split {self.split_name!r} than "
                f"{self._first.workdir}: give runs of the same data, or --data=DIR"
            )
        found = run.log_probabilities(split).astype(np.float64)
        return Predictions(found, split.labels, split.groups)


def _are_same(split: Split, other: Split) -> bool:
    """Return whether two splits hold the same images, by their names and labels."""
    return split is other or (
        len(split) == len(other)
        and bool((split.labels == other.labels).all())
        and split.names == other.names
    )
