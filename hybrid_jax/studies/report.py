"""The results of a study: a table on the screen, CSV, JSON, figures and sentences."""

import csv
import io
import typing
from pathlib import Path

from hybrid_jax.engine.console import duration, percent
from hybrid_jax.engine.intervals import in_words, interval
from hybrid_jax.engine.json_files import write_json, write_whole
from hybrid_jax.runtime import source_version
from hybrid_jax.studies.results import Part, Results
from hybrid_jax.studies.study import Study
from hybrid_jax.sweeps.progress import Status, WorkProgress
from hybrid_jax.sweeps.runs import Outcome

if typing.TYPE_CHECKING:
    from rich.table import Table

CSV, JSON = "results.csv", "results.json"


def study_progress(study: Study, folder: Path) -> WorkProgress:
    """Watch the runs of a study."""

    def look() -> Status:
        results = study.read(folder)
        items = results.outcomes.items()
        return Status({part: _line(study, part, outcome) for part, outcome in items})

    return WorkProgress("study", "runs", len(study.parts()), look)


def _line(study: Study, part: Part, outcome: Outcome) -> str:
    """Return a run in a line."""
    accuracy = Results({part: outcome}, study.kind.split).accuracy(part)
    worth = outcome.state
    if accuracy is not None:
        worth = f"{study.kind.split} {percent(accuracy)}"
    error = f" ({outcome.error})" if outcome.error else ""
    return (
        f"{part.model}, {part.value:g} {study.kind.axis}, seed {part.seed}: "
        f"{worth}{error} in {duration(outcome.seconds)}"
    )


def on_screen(study: Study, results: Results) -> "Table":
    """Return mean accuracies with 95 % intervals: a row a value, a column a model."""
    from rich.table import Table

    title = f"{study.kind.split} accuracy of one seed"
    if study.seeds > 1:
        title = (
            f"{study.kind.split} accuracy, mean ± 95 % interval of {study.seeds} seeds"
        )
    table = Table(title=title, title_justify="left")
    table.add_column(study.kind.axis, justify="right")
    for model in results.models:
        table.add_column(model, justify="right", overflow="fold")
    for value in results.values:
        cells = [_cell(results, model, value) for model in results.models]
        table.add_row(f"{value:g}", *cells)
    return table


def _cell(results: Results, model: str, value: float) -> str:
    found = [*results.accuracies(model, value).values()]
    missing = len([*results.at(model, value)]) - len(found)
    text = in_words(found) if found else "-"
    return f"{text} ({missing} failed)" if missing else text


def write(study: Study, results: Results, folder: Path, lines: list[str]) -> None:
    """Write `results.csv` with a line a run, and `results.json` with means as well."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("model", study.kind.axis, "seed", f"{study.kind.split} accuracy")
    writer.writerow([*names, "state", "steps", "seconds", "error"])
    for part, outcome in results.outcomes.items():
        accuracy = results.accuracy(part)
        shown = "" if accuracy is None else accuracy
        ends = [outcome.state, outcome.step, outcome.seconds, outcome.error]
        writer.writerow([part.model, f"{part.value:g}", part.seed, shown, *ends])
    write_whole(folder / CSV, text.getvalue())
    means = [
        {"model": model, "value": value, "accuracies": found}
        | {"interval_95": interval([*found.values()])}
        for model in results.models
        for value in results.values
        if (found := results.accuracies(model, value))
    ]
    about = {
        "study": study.name,
        "axis": study.kind.axis,
        "split": study.kind.split,
        "seeds": study.seeds,
        "hybrid_jax": source_version(),
        "means": means,
        "conclusions": lines,
    }
    write_json(folder / JSON, about)
