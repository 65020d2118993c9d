"""Show the results of baselines as a table, and format them as CSV and JSON."""

from typing import Any

from rich.console import Console
from rich.table import Table

from hybrid_jax.baselines.run import Report, Result
from hybrid_jax.csv_text import csv_text
from hybrid_jax.data.dataset import images_of_split
from hybrid_jax.errors import escape


def show(console: Console, report: Report) -> None:
    """Print the results, and notes on what was left out."""
    height, width = report.image_size
    counts = [f"{n:,} {images_of_split(name)}" for name, n in report.images.items()]
    lines = [f"{report.data}: {', '.join(counts)}, seen at {height}x{width} px"]
    lines += report.notes
    lines.append(
        f"parameters chosen on {report.chosen_on}; then trained on "
        f"{report.trained_on} and tested once"
        if "test" in report.images
        else f"parameters chosen on {report.chosen_on}; no test split, so untested"
    )
    table = Table("method")
    table.add_column("parameters", overflow="fold")
    for title in ("validation", "test", "95 % interval", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for result in report.results:
        table.add_row(
            result.title,
            parameters(result),
            _percent(result.validation_accuracy),
            _percent(result.test_accuracy),
            _interval(result),
            f"{result.seconds:.1f}",
        )
    for line in lines:
        console.print(escape(line), markup=False, soft_wrap=True)
    console.print(table)
    for result in report.results:
        for note in result.notes:
            console.print(f"{result.title}: {note}", markup=False, soft_wrap=True)


def parameters(result: Result) -> str:
    """Format the chosen parameters as `C=1, gamma=2`."""
    return ", ".join(
        f"{name.rpartition('__')[2]}={value:g}"
        if isinstance(value, (int, float))
        else f"{name.rpartition('__')[2]}={value}"
        for name, value in result.parameters.items()
    )


def as_json(report: Report) -> dict[str, Any]:
    """Return the whole report as a dict for JSON, accuracies as shares of 1."""
    return report._asdict() | {"results": [row._asdict() for row in report.results]}


def as_csv(report: Report) -> str:
    """Return CSV with a row for each method, accuracies as shares of 1."""
    lines: list[tuple] = [
        (
            "method",
            "parameters",
            "validation_accuracy",
            "test_accuracy",
            "test_low",
            "test_high",
            "train_images",
            "seconds",
            "notes",
        )
    ]
    for result in report.results:
        low, high = result.test_interval or ("", "")
        tested = "" if result.test_accuracy is None else result.test_accuracy
        lines.append(
            (
                result.method,
                parameters(result),
                result.validation_accuracy,
                tested,
                low,
                high,
                result.train_images,
                round(result.seconds, 2),
                "; ".join(result.notes),
            )
        )
    return csv_text(lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _interval(result: Result) -> str:
    low, high = result.test_interval or (None, None)
    if low is None or high is None:
        return "-"
    return f"{100 * low:.1f} to {100 * high:.1f} %"
