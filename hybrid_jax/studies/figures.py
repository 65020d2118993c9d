"""Draw the common parts of studies' figures: axes, styles, means with intervals."""

import contextlib
import itertools
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.engine.intervals import interval, mean
from hybrid_jax.plots import COLORS, saved_axes
from hybrid_jax.studies.results import Results

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX"  # one more than colors, so that each round pairs them differently
SHIFT = 1.03  # factor of x from one model to the next


class Style(NamedTuple):
    """The style of a model's line.

    Attributes:
      color: color of the line.
      marker: marker of the points.
      shift: factor of x, so that equal lines do not cover each other.
      line: solid, or dotted in every second round of colors.
    """

    color: str
    marker: str
    shift: float
    line: str


def styles(count: int) -> Iterator[Style]:
    """Yield a style for each of `count` models; colors repeat with other markers."""
    shifts = (SHIFT ** (number - (count - 1) / 2) for number in range(count))
    lines = itertools.cycle("-" * len(COLORS) + ":" * len(COLORS))
    return map(Style, itertools.cycle(COLORS), itertools.cycle(MARKERS), shifts, lines)


def axes(path: Path, rows: int) -> contextlib.AbstractContextManager[Sequence["Axes"]]:
    """Return a context with the axes of a study's figure; see `plots.saved_axes`."""
    return saved_axes(path, (6.4, 1.2 + 2.8 * rows), rows)


def draw_means(
    axes: "Axes", points: Mapping[float, Sequence[float]], label: str, style: Style
) -> None:
    """Draw means in percent, with 95 % intervals if there are several runs.

    Args:
      axes: axes to draw in.
      points: values of the runs at each x, shares of 1.
      label: label of the line.
      style: style of the line.
    """
    means = {x: 100 * mean(values) for x, values in points.items()}
    ends = [interval(values) or (0.0, 0.0) for values in points.values()]
    halves = [50 * (high - low) for low, high in ends]
    axes.errorbar(
        [x * style.shift for x in means],
        [*means.values()],
        yerr=halves if any(halves) else None,
        label=label,
        color=style.color,
        ls=style.line,
        marker=style.marker,
        markersize=4,
        lw=1.4,
        capsize=3,
    )


def accuracy_label(results: Results) -> str:
    """Return the title of an axis of accuracies, with intervals if there are seeds."""
    of_one = len(results.seeds) == 1
    about = " of one seed" if of_one else ", mean and 95 % interval"
    return f"{results.split} accuracy (%){about}"


def label_logarithm(axes: "Axes", title: str) -> None:
    """Make x logarithmic, with ticks at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x / 1e3:g}k" if x >= 1e4 else f"{x:,g}")
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(title)


def label_values(axes: "Axes", values: Sequence[float], title: str) -> None:
    """Make x logarithmic, with a tick at each value."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(title)
