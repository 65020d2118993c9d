"""What the figures of studies have in common: axes, colors, means with intervals."""

import contextlib
import itertools
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.extras import import_extra
from hybrid_jax.sweeps.intervals import interval, mean

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")
# Colors that the color-blind tell apart (Okabe & Ito 2008), but for black and yellow.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"
SHIFT = 1.03  # of x, from one model to the next


class Style(NamedTuple):
    """How a model is drawn.

    Attributes:
      color: of its line.
      marker: of its points.
      shift: factor of x, so that lines which are equal are seen beside each other.
    """

    color: str
    marker: str
    shift: float


def styles(count: int) -> Iterator[Style]:
    """Yield a style for each of so many models, and begin anew where colors end."""
    shifts = (SHIFT ** (number - (count - 1) / 2) for number in range(count))
    return map(Style, itertools.cycle(COLORS), itertools.cycle(MARKERS), shifts)


@contextlib.contextmanager
def axes(path: Path, rows: int) -> Iterator[Sequence["Axes"]]:
    """Give axes, one above the other with one x axis, and save what is drawn in them.

    Args:
      path: without a suffix; each of `FORMATS` gets a file.
      rows: number of axes.

    Raises:
      UserError: matplotlib is not installed.
    """
    import_extra("matplotlib", extra="study", purpose="drawing a study")
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    # SVG of the same results is the same text, so that a repository can hold it.
    style = {"svg.hashsalt": "hybrid_jax", "font.size": 10, "axes.axisbelow": True}
    with plt.rc_context(style):  # type: ignore[arg-type]
        size = (6.4, 1.2 + 2.8 * rows)
        figure, found = plt.subplots(rows, sharex=True, figsize=size, squeeze=False)
        try:
            for each in found[:, 0]:
                each.spines[["top", "right"]].set_visible(False)
                each.grid(alpha=0.3)
            yield [*found[:, 0]]
            figure.tight_layout()
            for name in FORMATS:
                scratch = path.with_name(f".{path.name}.{name}")
                about = {"Date": None} if name == "svg" else None
                figure.savefig(scratch, dpi=150, format=name, metadata=about)
                scratch.replace(path.with_name(f"{path.name}.{name}"))
        finally:
            plt.close(figure)


def draw_means(
    axes: "Axes", points: Mapping[float, Sequence[float]], label: str, style: Style
) -> None:
    """Draw means of shares in percent, with 95 % intervals where there are any.

    Args:
      axes: to draw in.
      points: the values of the runs at each x.
      label: of the line.
      style: of the line.
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
        marker=style.marker,
        markersize=4,
        lw=1.4,
        capsize=3,
    )


def label_values(axes: "Axes", values: Sequence[float], title: str) -> None:
    """Draw x by its logarithm, with a tick at each value."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(title)
