"""Figures of an evaluation: confusion matrix, reliability, risk against coverage."""

import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hybrid_jax.errors import escape
from hybrid_jax.evaluation.calibration import Bin, reliability
from hybrid_jax.evaluation.predictions import confusion_matrix
from hybrid_jax.evaluation.selective import risk_coverage, risks
from hybrid_jax.plots import COLORS, inline_svg, saved_axes

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from hybrid_jax.evaluation.evaluate import Evaluation

WRITTEN_CLASSES = 20  # more classes leave no room for numbers
BAND_POINTS = 200  # of the interval around a curve
MANY_IMAGES = 20  # whose intervals a figure shows whole
NAMED_CLASSES = 60  # more classes leave no room for names


def draw(found: "Evaluation", folder: Path) -> None:
    """Draw each of `FIGURES` in a folder, as PNG and SVG."""
    for name, figure in FIGURES.items():
        size = figure.size(found)
        with saved_axes(folder / name, size, figure.rows) as axes:
            figure.draw(axes, found)


def as_svg(found: "Evaluation", name: str, prefix: str) -> str:
    """Return one of `FIGURES` as an SVG element of a page, see `plots.inline_svg`.

    Args:
      found: the evaluation.
      name: key of `FIGURES`.
      prefix: begins the ids of elements.
    """
    figure = FIGURES[name]
    return inline_svg(
        lambda axes: figure.draw(axes, found),
        name=f"{prefix}-{name}",
        alt=figure.title,
        size=figure.size(found),
        rows=figure.rows,
    )


def _confusion_size(found: "Evaluation") -> tuple[float, float]:
    classes = len(found.classes)
    if classes > NAMED_CLASSES:
        return 7.8, 7.0
    side = float(np.clip(2.5 + 0.45 * classes, 4.0, 14.0))
    return side + 0.8, side


def _draw_confusion(rows: list["Axes"], found: "Evaluation") -> None:
    (axes,) = rows
    matrix = confusion_matrix(found.predictions)
    images = matrix.sum(1, keepdims=True)
    shares = matrix / np.maximum(images, 1)
    picture = axes.imshow(shares, cmap=_from_clear(COLORS[0]), vmin=0, vmax=1)
    axes.figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    axes.grid(visible=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(found.classes) <= NAMED_CLASSES:
        ticks = range(len(found.classes))
        names = [_label(name) for name in found.classes]
        axes.set_xticks(ticks, names, rotation=90 if len(names) > 3 else 0)
        axes.set_yticks(ticks, names)
    if len(found.classes) <= WRITTEN_CLASSES:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                where: dict[str, Any] = {"ha": "center", "va": "center", "size": 8}
                if shares[row, column] > 0.5:
                    where["color"] = "white"
                axes.text(column, row, f"{count:,}", where)


def _label(name: str) -> str:
    """Return the start of a class name, such that matplotlib sees no formula in it."""
    return escape(name[:24]).replace("$", r"\$")


def _from_clear(color: str) -> "Colormap":
    """Return a colormap from transparent to a color, for white and dark pages."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    ends = [(*to_rgb(color), alpha) for alpha in (0.0, 1.0)]
    return LinearSegmentedColormap.from_list("from_clear", ends)


def _draw_reliability(rows: list["Axes"], found: "Evaluation") -> None:
    upper, lower = rows
    upper.plot([0, 1], [0, 1], color="gray", lw=0.8, ls="--")
    _draw_bins(upper, reliability(found.predictions), "as trained", COLORS[0], "o")
    if found.temperature is not None:
        scaled = reliability(found.predictions.scaled(found.temperature))
        label = f"at temperature {found.temperature:.2f}"
        _draw_bins(upper, scaled, label, COLORS[1], "s")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    lower.hist(found.predictions.confidence, bins=30, range=(0, 1), color=COLORS[0])
    lower.set(xlabel="confidence", ylabel="images")


def _draw_bins(
    axes: "Axes", bins: list[Bin], label: str, color: str, marker: str
) -> None:
    """Draw a point with its 95 % interval for each bin; more images, a larger point."""
    filled = [row for row in bins if row.images]
    confidence = [row.confidence for row in filled]
    accuracy = [row.accuracy for row in filled]
    most = max(row.images for row in filled)
    areas = [6 + 60 * row.images / most for row in filled]
    for row in filled:
        if row.accuracy_low is not None and row.accuracy_high is not None:
            ends = row.accuracy_low, row.accuracy_high
            axes.vlines(row.confidence, *ends, color=color, lw=1, alpha=0.4)
    axes.scatter(
        confidence, accuracy, areas, label=label, color=color, marker=marker, alpha=0.8
    )


def _draw_coverage(rows: list["Axes"], found: "Evaluation") -> None:
    (axes,) = rows
    curve = risk_coverage(found.predictions)
    some = np.unique(np.linspace(0, len(curve.images) - 1, BAND_POINTS).astype(int))
    # None becomes NaN, which leaves a gap in the band.
    band = np.array(risks(found.predictions, curve.confidence[some]), np.float64)
    value, low, high = 100 * band.T
    axes.fill_between(
        100 * curve.coverage[some], low, high, color=COLORS[0], alpha=0.15, lw=0
    )
    axes.plot(100 * curve.coverage, 100 * curve.risk, color=COLORS[0], lw=1.4)
    axes.set(
        xlabel="images that are answered, the surest first (%)",
        ylabel="errors among them (%)",
        xlim=(0, 100),
    )
    # Intervals of the first few images reach far beyond all others.
    is_many = curve.images[some] >= min(MANY_IMAGES, curve.images[-1])
    axes.set_ylim(0, 1.05 * np.fmax(value, high)[is_many].max() or 1.0)


class Figure(NamedTuple):
    """A row of `FIGURES`.

    Attributes:
      title: what it shows.
      caption: how to read it.
      draw: draws an evaluation in axes.
      size: maps an evaluation to width and height in inches.
      rows: number of axes, one above the other.
    """

    title: str
    caption: str
    draw: Callable[[list["Axes"], "Evaluation"], None]
    size: Callable[["Evaluation"], tuple[float, float]]
    rows: int = 1


FIGURES = {
    "confusion": Figure(
        "Confusion matrix",
        "The color shows the share of the true class. With at most 20 classes, cells "
        "also show numbers of images.",
        _draw_confusion,
        _confusion_size,
    ),
    "reliability": Figure(
        "Reliability",
        "Accuracy against confidence, with 95 % intervals. On the dashed line, "
        "confidence equals accuracy. Below: how many images have each confidence.",
        _draw_reliability,
        lambda found: (4.8, 5.6),
        rows=2,
    ),
    "coverage": Figure(
        "Risk against coverage",
        "The share of errors among the images that are answered, if the model answers "
        "only the images that it is surest of, with its 95 % interval.",
        _draw_coverage,
        lambda found: (5.6, 4.0),
    ),
}
