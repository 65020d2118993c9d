"""Report of the measurements: tables on the screen; JSON, CSV and a figure."""

import itertools
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict

from hybrid_jax.console import Reporter
from hybrid_jax.csv_text import csv_of_dicts
from hybrid_jax.equivariance.agreement import (
    ANY,
    CONSISTENCY,
    CROP,
    SMALL,
    STILL,
    SUBPIXEL,
)
from hybrid_jax.equivariance.measure import Measured
from hybrid_jax.equivariance.measures import LOGITS
from hybrid_jax.equivariance.networks import TRAINED
from hybrid_jax.equivariance.shifts import MIRRORED, TURNED
from hybrid_jax.errors import escape, plural
from hybrid_jax.intervals import in_words, interval, mean
from hybrid_jax.json_files import finite_or_none, write_json, write_whole
from hybrid_jax.plots import COLORS, saved_axes
from hybrid_jax.runtime import source_version

if typing.TYPE_CHECKING:
    from rich.table import Table

JSON, CSV, FIGURE = "equivariance.json", "equivariance.csv", "equivariance"
MARKERS = "osD^vP"
FLOOR = 1e-17  # drawn for an error of 0, which has no logarithm


def _scientific(values: Sequence[float]) -> str:
    """Return mean and 95 % interval, such as `7.3e-02 ± 1e-02`."""
    found, middle = interval(values), f"{mean(values):.1e}"
    return middle if found is None else f"{middle} ± {(found[1] - found[0]) / 2:.0e}"


class Column(NamedTuple):
    """A column of a table on the screen.

    Attributes:
      title: heading of the column.
      path: path of its numbers, see `Row.numbers`.
      show: puts the numbers of all runs of a row into words.
    """

    title: str
    path: str
    show: Callable[[Sequence[float]], str] = in_words


# The tables on the screen. The first table names the networks, and the others number
# them. A table is left out if no network has its first column.
NETWORKS = "Networks and what they cost"
TABLES = {
    NETWORKS: (
        Column("parameters", "cost/parameters", lambda found: f"{found[0]:,.0f}"),
        Column("MMACs", "cost/macs", lambda found: f"{found[0] / 1e6:,.2f}"),
        Column("ms an image", "cost/milliseconds", lambda found: f"{found[0]:.3f}"),
    ),
    "Relative error of logits under cyclic shifts, and Lie derivative": (
        Column("1 px", f"errors/{LOGITS}/1", _scientific),
        Column("8 px", f"errors/{LOGITS}/8", _scientific),
        Column("every", "every_shift/error", _scientific),
        Column("Lie, a pixel", "lie_derivative", _scientific),
    ),
    "Images whose predicted class stays": (
        Column("-3 to 2 px", f"agreement/{SMALL}"),
        Column("two crops", f"agreement/{CONSISTENCY}"),
        Column("turned 180", f"agreement/{TURNED}"),
        Column("mirrored", f"agreement/{MIRRORED}"),
    ),
    "Accuracy": (
        Column("as it is", f"accuracy/{STILL}"),
        Column("any cyclic", f"accuracy/{ANY}"),
        Column("crops", f"accuracy/{CROP}"),
        Column("sub-pixel", f"accuracy/{SUBPIXEL}"),
    ),
}


class Row(NamedTuple):
    """Measurements of networks that differ in their seeds alone.

    Attributes:
      name: title of the row, see `networks.Subject`.
      weights: `networks.TRAINED` or `networks.RANDOM`.
      runs: measurements of each network.
      cost: parameters, MACs and milliseconds per image.
    """

    name: str
    weights: str
    runs: list[Measured]
    cost: dict[str, Any]

    @property
    def numbers(self) -> dict[str, list[float]]:
        """The numbers of all runs by path, such as `errors/logits/1`."""
        flat = [
            flatten_dict(run.values | {"cost": self.cost}, sep="/") for run in self.runs
        ]
        return {
            path: [row[path] for row in flat]
            for path in flat[0]
            if all(path in row for row in flat)
        }

    @property
    def title(self) -> str:
        """Name and kind of weights."""
        return f"{self.name} ({self.weights})"


def rows_of(measured: Sequence[Measured], costs: dict[str, dict]) -> list[Row]:
    """Group measurements into rows, by network and kind of weights, in their order."""
    found: dict[tuple[str, str], list[Measured]] = {}
    for each in measured:
        found.setdefault((each.row, each.weights), []).append(each)
    return [Row(*key, runs, costs[key[0]]) for key, runs in found.items()]


def show(rows: Sequence[Row], console: Reporter) -> None:
    """Print tables of cost, errors, agreement and accuracy, and numbers of images."""
    for title, columns in TABLES.items():
        if any(columns[0].path in row.numbers for row in rows):
            console.print(_table(title, rows, columns))
    for line in dict.fromkeys(_counts(run) for row in rows for run in row.runs):
        console.say(line)


def _counts(run: Measured) -> str:
    """Return a line on the kind and number of images behind each measurement."""
    values, kind = run.values, f"{run.split or 'noise'} image"
    shifted = values.get("every_shift", {}).get("images", 0)
    every = f"every cyclic shift: {plural(shifted, kind)}; " if shifted else ""
    return (
        f"Errors: the largest of {plural(values['images'], kind)}; {every}"
        f"predictions: {plural(values['predicted'], kind)}"
    )


def _table(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> "Table":
    """Return a table with a numbered row for each network."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("", justify="right")
    if title == NETWORKS:
        table.add_column("network", overflow="fold")
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    for number, row in enumerate(rows, start=1):
        found = row.numbers
        names = [escape(row.title)] if title == NETWORKS else []
        cells = [c.show(found[c.path]) if c.path in found else "-" for c in columns]
        table.add_row(str(number), *names, *cells)
    return table


def write(
    rows: Sequence[Row], settings: dict[str, Any], notes: Sequence[str], folder: Path
) -> None:
    """Write JSON, a line for each run as CSV, and a figure to an existing folder."""
    about = {
        "hybrid_jax": source_version(),
        "settings": settings,
        "left out": [*notes],
        "rows": [_as_json(row) for row in rows],
    }
    write_json(folder / JSON, finite_or_none(about))
    write_whole(folder / CSV, _as_csv(rows))
    draw(rows, folder / FIGURE)


def _as_json(row: Row) -> dict[str, Any]:
    numbers = {k: v for k, v in row.numbers.items() if not k.startswith("cost/")}
    return {
        "network": row.name,
        "weights": row.weights,
        "cost": row.cost,
        "runs": [
            {"name": run.name, "split": run.split} | run.values for run in row.runs
        ],
        "mean": {path: mean(values) for path, values in numbers.items()},
        "interval_95": {path: interval(values) for path, values in numbers.items()},
    }


def _as_csv(rows: Sequence[Row]) -> str:
    lines = [
        {"network": row.name, "weights": row.weights, "run": run.name}
        | row.cost
        | flatten_dict(run.values, sep="/")
        for row in rows
        for run in row.runs
    ]
    return csv_of_dicts(lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the relative error of logits against the shift, a line for each row."""
    with saved_axes(path, (6.4, 4.4)) as (axes,):
        looks = zip(itertools.cycle(COLORS), itertools.cycle(MARKERS), strict=False)
        for row, (color, marker) in zip(rows, looks, strict=False):
            errors = _errors_by_shift(row)
            axes.plot(
                [*errors],
                [max(error, FLOOR) for error in errors.values()],
                color=color,
                marker=marker,
                ls="-" if row.weights == TRAINED else "--",
                markersize=4,
                lw=1.4,
                label=row.title,
            )
        shifts = sorted({shift for row in rows for shift in _errors_by_shift(row)})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(shifts, [*map(str, shifts)])
        axes.set_xlabel("cyclic shift in pixels")
        axes.set_ylabel("largest relative error of logits")
        axes.legend(fontsize=8, frameon=False)


def _errors_by_shift(row: Row) -> dict[int, float]:
    """Return the mean error of logits of a row's runs, by shift in pixels."""
    start = f"errors/{LOGITS}/"
    return {
        int(path.removeprefix(start)): mean(values)
        for path, values in row.numbers.items()
        if path.startswith(start)
    }
