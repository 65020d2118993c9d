"""Draw the common parts of studies' figures: axes, styles, means with intervals."""

import contextlib
import itertools
import typing
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.intervals import mean, share_interval
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
    axes: "Axes",
    points: Iterable[tuple[float, Sequence[float]]],
    label: str,
    style: Style,
) -> None:
    """Draw means in percent, with 95 % intervals if there are several runs.

    An interval is cut off at 0 and 100 %.

    Args:
      axes: axes to draw in.
      points: each x with the values of its runs, shares of 1; two may have one x.
      label: label of the line.
      style: style of the line.
    """
    points = [*points]
    means = [mean(values) for _, values in points]
    ends = [share_interval(values) or (mean(values),) * 2 for _, values in points]
    reach = [
        (100 * (middle - low), 100 * (high - middle))
        for middle, (low, high) in zip(means, ends, strict=True)
    ]
    axes.errorbar(
        [x * style.shift for x, _ in points],
        [100 * middle for middle in means],
        yerr=np.transpose(reach) if np.any(reach) else None,
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
    return f"{results.split} accuracy (%){' of' if of_one else ','} {shown(results)}"


def shown(results: Results) -> str:
    """Say what a figure shows of the seeds: one, or their mean and its interval."""
    return "one seed" if len(results.seeds) == 1 else "mean and 95 % interval"


def say_empty(axes: "Axes", text: str) -> None:
    """Write into axes that have no points why there are none."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="gray"
    )
    axes.set_yticks([])


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
