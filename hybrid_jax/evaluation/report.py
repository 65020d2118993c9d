"""Show an evaluation on the screen; write it as JSON, tables and figures."""

import math
import tempfile
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid_jax.console import Reporter, percent
from hybrid_jax.csv_text import csv_text
from hybrid_jax.errors import UserError, escape, listed, plural
from hybrid_jax.evaluation import figures, selective
from hybrid_jax.evaluation.bootstrap import Estimate, class_units
from hybrid_jax.evaluation.calibration import reliability
from hybrid_jax.evaluation.comparison import Comparison
from hybrid_jax.evaluation.measures import MEASURES, measure
from hybrid_jax.evaluation.per_class import ClassResult
from hybrid_jax.evaluation.prediction_sets import SetQuality
from hybrid_jax.evaluation.predictions import Predictions, confusion_matrix
from hybrid_jax.evaluation.selective import Answered
from hybrid_jax.json_files import finite_or_none, write_json, write_whole
from hybrid_jax.parallel.signals import Interruption
from hybrid_jax.paths import check_local, check_parent, expand_user
from hybrid_jax.prediction.rows import class_columns
from hybrid_jax.runtime import source_version

if typing.TYPE_CHECKING:
    from rich.table import Table

    from hybrid_jax.evaluation.evaluate import Evaluation

CALIBRATED = ("nll", "brier", "ece")  # measures that a temperature changes
SHOWN_CLASSES = 20  # on the screen; classes.csv has all
# Columns that a narrow screen leaves out, the first of them first.
LEFT_OUT = ("specificity", "AUC", "F1", "95 % interval")


def check_empty_folder(output: str) -> None:
    """Refuse a folder that is no place for results, before a run is opened.

    Raises:
      UserError: the folder is a remote path, a file, or not empty; or its parent is
        missing.
    """
    check_local("--output", output)
    path = expand_user(output)
    if path.exists() and not path.is_dir():
        raise UserError(f"--output={escape(path)} is a file: give a folder")
    if path.is_dir() and (entry := next(path.iterdir(), None)):
        raise UserError(
            f"--output={escape(path)} is not empty (it holds {escape(entry.name)}): "
            "give a new folder, or empty it"
        )
    check_parent(path, "--output=")


def make_folder(folder: Path) -> None:
    """Make a folder for results before they are computed, so that none are lost.

    Raises:
      UserError: the folder cannot be made, or not be written.
    """
    folder = expand_user(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"{escape(folder)} cannot be written ({error.strerror}): give another "
            "folder to --output"
        ) from None


def count_groups(predictions: Predictions) -> int | None:
    """Return the number of groups; None where images have no groups."""
    groups = predictions.groups
    return None if groups is None else len({*groups.tolist()})


def missing_intervals(predictions: Predictions, classes: Sequence[str]) -> str:
    """Return why means over classes have no interval; empty if they may have one."""
    counts = class_units(predictions).tolist()
    lone = [repr(c) for c, count in zip(classes, counts, strict=True) if count == 1]
    if not lone:
        return ""
    names = " and ".join(row.title for row in MEASURES.values() if row.by_class)
    units = "image" if predictions.groups is None else "group of images"
    which = f"class {lone[0]}" if len(lone) == 1 else f"the classes {listed(lone)}"
    return f"Intervals of {names}: a single {units} of {which} tells nothing of others"


def show(found: "Evaluation", console: Reporter) -> None:
    """Print the measures with intervals, coverage at low risk, and each class."""
    console.print(_measure_table(found))
    if groups := count_groups(found.predictions):
        console.say(f"The intervals are those of {plural(groups, 'group')} of images")
    if note := missing_intervals(found.predictions, found.classes):
        console.say(f"Left out: {note}")
    if _is_worse_scaled(found):
        console.say(
            "On these images, the temperature that validation chose makes "
            "probabilities worse: validation has few images, or different ones"
        )
    curve = selective.risk_coverage(found.predictions)
    for risk in (0.01, 0.05):
        if answered := curve.answered(risk):
            console.say(_answered_in_words(risk, answered, found.predictions))
    if found.sets:
        console.say(_sets_in_words(found.sets))
    if found.comparison:
        name, comparison = found.comparison
        console.say(f"Accuracy minus that of {name}: {compared(comparison)}")
    console.print(_class_table(found, console.columns))


def _answered_in_words(
    risk: float, answered: Answered, predictions: Predictions
) -> str:
    ((_, low, high),) = selective.risks(predictions, [answered.confidence])
    ends = ""
    if low is not None and high is not None:
        ends = f" ({100 * low:.1f} to {100 * high:.1f} %)"
    return (
        f"For at most {100 * risk:g} % errors, answer {answered.images:,} of "
        f"{plural(len(predictions), 'image')}, those with a confidence of "
        f"{answered.confidence:.3f} or more: {answered.errors:,} of them are wrong"
        f"{ends}"
    )


def _is_worse_scaled(found: "Evaluation") -> bool:
    """Return whether the temperature raises the negative log-likelihood."""
    if found.temperature is None:
        return False
    scaled = found.predictions.scaled(found.temperature)
    return measure(scaled, "nll") > found.measures["nll"].value


def _sets_in_words(sets: SetQuality) -> str:
    held, size = sets.coverage, sets.size
    ends = f" ({interval('accuracy', held)})" if held.low is not None else ""
    sizes = f" ({size.low:.2f} to {size.high:.2f})" if size.low is not None else ""
    return (
        f"Sets at coverage {sets.asked:g}: {percent(held.value)} hold the true class"
        f"{ends}, with {size.value:.2f} classes on average{sizes}"
    )


def _measure_table(found: "Evaluation") -> "Table":
    """Return a table of measures: value, interval, and value at the temperature."""
    from rich.table import Table

    table = Table(title=escape(found.title), title_justify="left")
    table.add_column(found.split)
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    scaled = None
    if found.temperature is not None:
        table.add_column(f"at temperature {found.temperature:.2f}", justify="right")
        scaled = found.predictions.scaled(found.temperature)
    for name, value in found.measures.items():
        cells = [number(name, value.value), interval(name, value)]
        if scaled and name in CALIBRATED:
            cells.append(number(name, measure(scaled, name)))
        table.add_row(MEASURES[name].title, *cells)
    return table


def interval(name: str, value: Estimate) -> str:
    """Return an interval in words, such as `96.90 to 97.68`; empty without one."""
    if value.low is None or value.high is None:
        return ""
    ends = (number(name, end).removesuffix(" %") for end in (value.low, value.high))
    return " to ".join(ends)


def compared(comparison: Comparison) -> str:
    """Return a paired comparison in words."""
    low, high, ends = comparison.low, comparison.high, ""
    if low is not None and high is not None:
        ends = f" ({100 * low:+.2f} to {100 * high:+.2f})"
    return (
        f"{100 * comparison.difference:+.2f} points{ends}; this one alone is right on "
        f"{plural(comparison.first_only, 'image')}, the other alone on "
        f"{comparison.second_only:,}, {comparison.test} p = {comparison.p_value:.3g}"
    )


def write(found: "Evaluation", folder: Path) -> None:
    """Write `evaluation.json`, tables and figures to a folder, all of them or none.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = expand_user(folder)
    try:
        with (
            Interruption() as interruption,  # so that a signal leaves nothing
            tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as scratch,
        ):
            _write(found, Path(scratch))
            with interruption.deferred():
                for path in Path(scratch).iterdir():
                    path.replace(folder / path.name)
    except OSError as error:
        raise UserError(f"--output={escape(folder)}: {error.strerror}") from None


def _write(found: "Evaluation", folder: Path) -> None:
    predictions, classes, rows = found.predictions, found.classes, found.per_class
    write_json(folder / "evaluation.json", as_json(found))
    _write_table(folder / "classes.csv", _class_header(), _class_lines(rows))
    matrix = confusion_matrix(predictions)
    lines = [[n, *row] for n, row in zip(classes, matrix.tolist(), strict=True)]
    _write_table(folder / "confusion.csv", ["true class", *classes], lines)
    about = ["path", "label", "predicted", "probability"]
    header = [*about, *class_columns(classes, about)]
    _write_table(folder / "predictions.csv", header, _image_lines(found))
    figures.draw(found, folder)


def as_json(found: "Evaluation") -> dict[str, Any]:
    """Return the evaluation, without single images, fit for JSON; NaN becomes None."""
    predictions = found.predictions
    curve = selective.risk_coverage(predictions)
    about: dict[str, Any] = {
        "title": found.title,
        "split": found.split,
        "images": len(predictions),
        "groups": count_groups(predictions),
        "measures": {n: e._asdict() for n, e in found.measures.items()},
        "temperature": found.temperature,
        "at temperature": None,
        "classes": [
            row._asdict()
            | {k: v._asdict() for k, v in row._asdict().items() if _is_estimate(v)}
            for row in found.per_class
        ],
        "confusion": confusion_matrix(predictions).tolist(),
        "reliability": [row._asdict() for row in reliability(predictions)],
        "area under risk and coverage": curve.area,
        "coverage at risk": {
            f"{risk:g}": point.coverage if (point := curve.answered(risk)) else 0.0
            for risk in selective.RISKS
        },
        "sets": None,
        "comparison": None,
        "hybrid_jax": source_version(),
    }
    if found.temperature is not None:
        scaled = predictions.scaled(found.temperature)
        about["at temperature"] = {n: measure(scaled, n) for n in CALIBRATED}
    if found.sets:
        asked, held, size = found.sets
        about["sets"] = {
            "asked": asked,
            "coverage": held._asdict(),
            "size": size._asdict(),
        }
    if found.comparison:
        name, comparison = found.comparison
        about["comparison"] = {"with": name, **comparison._asdict()}
    return typing.cast(dict, finite_or_none(about))


def number(name: str, value: float) -> str:
    """Return a value as tables show it; `name` is a row of `MEASURES`."""
    return percent(value) if MEASURES[name].is_share else f"{value:.4f}"


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Estimate)


def _class_table(found: "Evaluation", width: int) -> "Table":
    """Return a table of the classes; of many classes, those of least recall.

    Args:
      found: the evaluation.
      width: characters of a line; columns that do not fit are left out.
    """
    from rich.table import Table

    rows = found.per_class
    title, left_out = "classes", max(len(rows) - SHOWN_CLASSES, 0)
    if left_out:
        rows = sorted(rows, key=_least_recall)[:SHOWN_CLASSES]
        title = f"the {SHOWN_CLASSES} classes of least recall, of {len(found.classes)}"
    columns = {
        "class": [escape(row.name) for row in rows],
        "images": [f"{row.support:,}" for row in rows],
        "recall": [share(row.recall.value) for row in rows],
        "95 % interval": [interval("accuracy", row.recall) for row in rows],
        "precision": [share(row.precision.value) for row in rows],
        "specificity": [share(row.specificity.value) for row in rows],
        "F1": [share(row.f1) for row in rows],
        "AUC": [area(row.auc) for row in rows],
    }
    missing = []
    for name in LEFT_OUT:
        if _width(columns) > width:
            del columns[name]
            missing.append(name)
    table = Table(title=title, title_justify="left", caption_justify="left")
    for name in columns:
        justify: Any = "left" if name == "class" else "right"
        table.add_column(name, justify=justify, overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    if missing:
        table.caption = f"classes.csv of --output also has {listed(missing)}"
    return table


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Return the characters that a line of a table takes, with its borders."""
    from rich.cells import cell_len

    texts = ([name, *cells] for name, cells in columns.items())
    return 1 + sum(3 + max(map(cell_len, column)) for column in texts)


def _least_recall(row: ClassResult) -> tuple[bool, float]:
    """Return a key that sorts classes by recall; those without images come last."""
    return math.isnan(row.recall.value), row.recall.value


def area(value: float) -> str:
    """Format an area under a curve, from 0 to 1; `-` for NaN."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def share(value: float) -> str:
    """Return a share in percent; `-` for NaN."""
    return "-" if math.isnan(value) else percent(value)


def _class_header() -> list[str]:
    ends = ("", " low", " high")
    shares = [f"{n}{e}" for n in ("recall", "precision", "specificity") for e in ends]
    return ["class", "images", *shares, "f1", "auc"]


def _class_lines(rows: Sequence[ClassResult]) -> Iterable[list[Any]]:
    for row in rows:
        shares = [*row.recall, *row.precision, *row.specificity, row.f1, row.auc]
        yield [row.name, row.support, *map(_cell, shares)]


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"


def _image_lines(found: "Evaluation") -> Iterable[list[Any]]:
    predictions, classes = found.predictions, found.classes
    for name, label, best, row in zip(
        found.names,
        predictions.labels.tolist(),
        predictions.predicted.tolist(),
        predictions.probabilities.tolist(),
        strict=True,
    ):
        numbers = [f"{p:.6f}" for p in row]
        yield [escape(name), classes[label], classes[best], numbers[best], *numbers]


def _write_table(
    path: Path, header: Sequence[Any], lines: Iterable[Sequence[Any]]
) -> None:
    write_whole(path, csv_text([header, *lines]))
