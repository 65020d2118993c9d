"""Show the results of a study as a table, and write them as CSV and JSON."""

import typing
from pathlib import Path
from typing import Any

from hybrid_jax.csv_text import csv_of_dicts
from hybrid_jax.intervals import in_words, mean, share_interval
from hybrid_jax.json_files import write_json, write_whole
from hybrid_jax.runtime import source_version
from hybrid_jax.studies import comparison
from hybrid_jax.studies.costs import MEASURES, few_digits
from hybrid_jax.studies.results import UNVARIED, Results
from hybrid_jax.studies.study import Study
from hybrid_jax.sweeps.progress import WorkProgress, runs_progress
from hybrid_jax.sweeps.runs import REFUSED

if typing.TYPE_CHECKING:
    from rich.table import Table

CSV, MEANS, JSON = "results.csv", "means.csv", "results.json"


def study_progress(study: Study, folder: Path) -> WorkProgress:
    """Return the progress of the runs of a study."""
    parts = {
        folder / part.folder: (study.describe(part), config)
        for part, config in study.parts().items()
    }
    return runs_progress("study", parts, study.kind.split)


def on_screen(study: Study, results: Results) -> "Table":
    """Return a table of mean accuracies with 95 % intervals.

    If the study has an axis, each row is a value and each column a model. Otherwise,
    each row is a model.
    """
    title = f"{study.kind.split} accuracy of one seed"
    if study.seeds > 1:
        title = (
            f"{study.kind.split} accuracy, mean ± 95 % interval of {study.seeds} seeds"
        )
    axis = study.kind.axis
    return _by_value(results, title, axis.name) if axis else _by_model(results, title)


def _by_value(results: Results, title: str, axis: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column(axis, justify="right")
    for model in results.models:
        table.add_column(model, justify="right", overflow="fold")
    for value in results.values:
        cells = [_cell(results, model, value) for model in results.models]
        table.add_row(f"{value:g}", *cells)
    return table


def _by_model(results: Results, title: str) -> "Table":
    from rich import box
    from rich.table import Table

    first = results.models[0]
    table = Table(
        title=title,
        title_justify="left",
        caption=f"to first: points to {first}, run by run of one seed; params and MACs "
        "in millions, ms a training step",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("model", overflow="fold")
    for head in ("accuracy", "to first", *(measure.head for measure in MEASURES)):
        table.add_column(head, justify="right", no_wrap=True)
    for model in results.models:
        found = comparison.differences(results, model, first) if model != first else []
        points = "".join(map(comparison.in_points, found))
        numbers = map(few_digits, _costs(results, model).values())
        table.add_row(model, _cell(results, model, UNVARIED), points, *numbers)
    return table


def _cell(results: Results, model: str, value: float) -> str:
    found = [*results.accuracies(model, value).values()]
    states = [results.outcomes[part].state for part in results.at(model, value)]
    refused = states.count(REFUSED)
    counts = {"failed": len(states) - len(found) - refused, "refused": refused}
    missing = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    text = in_words(found) if found else "-"
    return f"{text} ({missing})" if missing else text


def _costs(results: Results, model: str) -> dict[str, float | None]:
    """Return the cost of a model, by the titles of the measures."""
    cost = results.costs.get(model)
    return {m.title: m.of(cost) if cost else None for m in MEASURES}


def write(study: Study, results: Results, folder: Path, lines: list[str]) -> None:
    """Write `results.csv` with a row for each run, `means.csv`, and `results.json`.

    `means.csv` has a row for each model and value, with the mean difference to the
    first model over runs of one seed. `results.json` has the means and the conclusions.
    """
    split, axis = f"{study.kind.split} accuracy", study.kind.axis
    runs = [
        {"model": part.model}
        | ({axis.name: f"{part.value:g}"} if axis else {})
        | {"seed": part.seed, split: results.accuracy(part), "state": outcome.state}
        | {"steps": outcome.step, "seconds": outcome.seconds, "error": outcome.error}
        for part, outcome in results.outcomes.items()
    ]
    write_whole(folder / CSV, csv_of_dicts(runs))
    means = [
        _mean(study, results, model, value)
        for model in results.models
        for value in results.values
        if results.accuracies(model, value)
    ]
    write_whole(folder / MEANS, csv_of_dicts([*map(_flat, means)]))
    about = {
        "study": study.kind.name,
        "axis": axis.name if axis else None,
        "split": study.kind.split,
        "seeds": study.seeds,
        "hybrid_jax": source_version(),
        "means": means,
        "conclusions": lines,
    }
    write_json(folder / JSON, about)


def _mean(study: Study, results: Results, model: str, value: float) -> dict[str, Any]:
    """Return the accuracies of a model at a value, their mean, and the model's cost."""
    found = results.accuracies(model, value)
    to_first = [
        {
            "points": 100 * d.mean,
            "points_interval_95": d.interval and _points(d.interval),
        }
        for d in comparison.differences(results, model, results.models[0])
        if d.value == value and model != results.models[0]
    ]
    nothing = {"points": None, "points_interval_95": None}
    return (
        {"model": model}
        | ({"value": value} if study.kind.axis else {})
        | {"accuracies": found, "mean": mean([*found.values()])}
        | {"interval_95": share_interval([*found.values()])}
        | (to_first[0] if to_first else nothing)
        | (_costs(results, model) if study.kind.costs else {})
    )


def _points(ends: tuple[float, float]) -> tuple[float, float]:
    return 100 * ends[0], 100 * ends[1]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Flatten a row of means into cells: the number of runs, and ends of intervals."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        if name == "accuracies":
            cells["runs"] = len(value)
        elif name.endswith("interval_95"):
            kind = name.removesuffix("interval_95")
            cells[f"{kind}low"], cells[f"{kind}high"] = value or (None, None)
        else:
            cells[name] = value
    return cells
