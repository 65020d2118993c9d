"""Gather what a page says of one run, in the order of the page."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.errors import UserError, plural
from hybrid_jax.evaluation import figures, mislabeled
from hybrid_jax.evaluation.bootstrap import Estimate, proportion
from hybrid_jax.evaluation.evaluate import Evaluation, Images, evaluate_run
from hybrid_jax.evaluation.measures import MEASURES, measure
from hybrid_jax.evaluation.per_class import ClassResult
from hybrid_jax.evaluation.report import (
    CALIBRATED,
    area,
    count_groups,
    interval,
    missing_intervals,
    number,
)
from hybrid_jax.evaluation.report import share as share_in_words
from hybrid_jax.json_files import read_json
from hybrid_jax.models.cost import cost
from hybrid_jax.reports import facts, pictures
from hybrid_jax.reports.curves import learning_curves
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.results import chosen_by
from hybrid_jax.runs.run import Run
from hybrid_jax.runs.stored_data import GROUPS

CURVES = (
    "Training values may be worse than those of other images, because they are "
    "measured on augmented images, with a loss that may smooth labels. The dotted line "
    "marks the weights that are judged here."
)


class Figure(NamedTuple):
    """A figure in a page.

    Attributes:
      name: `curves`, or one of `evaluation.figures.FIGURES`.
      title: what it shows.
      caption: how to read it.
      svg: an element of the page.
    """

    name: str
    title: str
    caption: str
    svg: str


@dataclasses.dataclass
class RunReport:
    """The contents of one run's part of a page: plain texts, and SVG elements.

    Attributes:
      prefix: begins the ids of its elements.
      workdir: the run's folder, as the user named it.
      title: the model, and what it was trained on.
      run: the run.
      training: facts about the training, by name.
      accuracy: accuracy with its 95 % interval; None where nothing was measured.
      judged: the images that the accuracy is of, in words.
      weights: which weights are judged, and what chose them, in words.
      evaluation: evaluation of the images; None where they are gone.
      measures: title, value, interval and value at the temperature of each measure.
      figures: learning curves, and figures of the evaluation, as far as there are any.
      classes: rows of the table of classes.
      mistakes, right: images of the surest mistakes, and of the surest right answers.
      mislabeled: images whose labels to check; None where they are unknown.
      doubtful: number of labels to check, in words.
      augmented: an image, and augmentations of it.
      network, parts: parameters and operations, of the network and of each part.
      changed, others: fields that differ from their defaults, and all other fields.
      identity: what identifies the data, by name.
      environment: environment of the training; empty where the folder has none.
      left_out: what the page lacks and why, a sentence each.
    """

    prefix: str
    workdir: str
    title: str
    run: Run
    training: dict[str, str]
    accuracy: Estimate | None
    judged: str
    weights: str
    network: dict[str, str]
    parts: list[list[str]]
    changed: list[facts.FieldRow]
    others: list[facts.FieldRow]
    identity: dict[str, str]
    environment: dict[str, str]
    evaluation: Evaluation | None = None
    measures: list[list[str]] = dataclasses.field(default_factory=list)
    figures: list[Figure] = dataclasses.field(default_factory=list)
    classes: list[list[str]] = dataclasses.field(default_factory=list)
    mistakes: list[pictures.Picture] = dataclasses.field(default_factory=list)
    right: list[pictures.Picture] = dataclasses.field(default_factory=list)
    mislabeled: list[pictures.Picture] | None = None
    doubtful: str = ""
    augmented: list[pictures.Picture] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)

    @property
    def headline(self) -> str:
        """The accuracy in words; empty where nothing was measured."""
        return "" if self.accuracy is None else number("accuracy", self.accuracy.value)

    @property
    def has_attention(self) -> bool:
        """Whether the pictures show where attention looks."""
        return any(len(p.beside) > 1 for p in [*self.mistakes, *self.right])

    @property
    def interval(self) -> str:
        """The interval of the accuracy in words."""
        return "" if self.accuracy is None else interval("accuracy", self.accuracy)


def gather(run: Run, workdir: str, prefix: str) -> RunReport:
    """Gather the contents of a run's part; without its images, some are left out.

    Args:
      run: the run.
      workdir: its folder, as the user named it.
      prefix: begins the ids of elements.
    """
    folder = RunFolder(workdir)
    data, environment = map(_read, (folder.data, folder.environment))
    accuracy, judged = _stored_accuracy(run, data)
    counted = cost(run.model, len(run.network.mean))
    changed, others = facts.fields(run.config)
    report = RunReport(
        prefix=prefix,
        workdir=workdir,
        title=f"{run.config.model.name} on {run.config.data.title}",
        run=run,
        training=facts.training(run, data),
        accuracy=accuracy,
        judged=judged,
        weights=_weights(run),
        network=facts.network(counted),
        parts=facts.parts(counted),
        changed=changed,
        others=others,
        identity=facts.identity(data),
        environment=environment,
    )
    if curves := learning_curves(run.history, run.checkpoint, prefix):
        report.figures.append(Figure("curves", "Learning curves", CURVES, curves))
    else:
        report.left_out.append("Learning curves: the run's folder holds no metrics.")
    if run.results is None:
        report.left_out.append(
            "The end of the run: it has not ended. All numbers are of "
            f"{run.weights_in_words}."
        )
    _try(report, "Figures, classes and pictures", _add_evaluation)
    _try(report, "Labels to check", _add_mislabeled)
    _try(report, "The preview of augmentation", _add_augmentation)
    return report


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; a missing file is an empty one."""
    return read_json(path) if path.exists() else {}


def _try(report: RunReport, what: str, add: Callable[[RunReport], None]) -> None:
    """Add a part that needs images, or say why it is left out."""
    try:
        add(report)
    except (UserError, OSError) as error:
        report.left_out.append(f"{what}: {str(error).rstrip('.')}.")


def _stored_accuracy(run: Run, data: dict[str, Any]) -> tuple[Estimate | None, str]:
    """Return the accuracy that the run itself measured, and on which images."""
    images = facts.counts(data)
    for split in ("test", "validation"):
        found = run.own_results.get(split, {}).get("accuracy")
        if found is not None:
            count = images.get(split, 0)
            # The bootstrap over groups would need the predictions.
            is_known = count and split not in data.get(GROUPS, {})
            ends = proportion(found, count) if is_known else (None, None)
            return Estimate(found, *ends), f"{count:,} {split} images"
    return None, ""


def _weights(run: Run) -> str:
    """Say which weights the numbers are of, and what chose them."""
    weights = f"weights of {run.weights_in_words}"
    return f"{weights}, {chosen_by(run.own_results)}" if run.own_results else weights


def _add_evaluation(report: RunReport) -> None:
    found = evaluate_run(report.run)
    name, split = Images().of(report.run)
    report.evaluation, report.accuracy = found, found.measures["accuracy"]
    report.judged = f"{plural(len(split), f'{name} image')}"
    if groups := count_groups(found.predictions):
        report.judged += f" in {plural(groups, 'group')}"
    report.measures = _measures(found)
    if note := missing_intervals(found.predictions, found.classes):
        report.left_out.append(f"{note}.")
    report.classes = [*map(_class_row, found.per_class)]
    for name, row in figures.FIGURES.items():
        svg = figures.as_svg(found, name, report.prefix)
        report.figures.append(Figure(name, row.title, row.caption, svg))
    report.mistakes = pictures.answers(report.run, found, split, right=False)
    report.right = pictures.answers(report.run, found, split, right=True)


def _add_mislabeled(report: RunReport) -> None:
    found = report.evaluation
    if found is None:  # `_add_evaluation` has said why
        return
    suspects, notes = mislabeled.find(found.predictions, found.classes)
    report.left_out += [f"Labels that cannot be judged: {note}." for note in notes]
    _, split = Images().of(report.run)
    report.mislabeled = pictures.doubtful(found, split, suspects)
    report.doubtful = f"{len(suspects):,} of {plural(len(split), 'image')}"


def _add_augmentation(report: RunReport) -> None:
    report.augmented = pictures.augmented(report.run)


def _measures(found: Evaluation) -> list[list[str]]:
    rows = [
        [MEASURES[name].title, number(name, value.value), interval(name, value)]
        for name, value in found.measures.items()
    ]
    if found.temperature is not None:
        scaled = found.predictions.scaled(found.temperature)
        for name, row in zip(found.measures, rows, strict=True):
            is_changed = name in CALIBRATED
            row.append(number(name, measure(scaled, name)) if is_changed else "")
    return rows


def _class_row(row: ClassResult) -> list[str]:
    shares: Sequence[Estimate] = (row.recall, row.precision, row.specificity)
    with_intervals = [
        text
        for share in shares
        for text in (share_in_words(share.value), interval("accuracy", share))
    ]
    ends = [share_in_words(row.f1), area(row.auc)]
    return [row.name, f"{row.support:,}", *with_intervals, *ends]
