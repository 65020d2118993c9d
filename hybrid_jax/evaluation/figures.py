"""Figures of an evaluation: confusion matrix, reliability, risk against coverage."""

import typing
from pathlib import Path

import numpy as np

from hybrid_jax.evaluation.calibration import Bin, reliability
from hybrid_jax.evaluation.predictions import Predictions, confusion_matrix
from hybrid_jax.evaluation.selective import risk_coverage
from hybrid_jax.extras import import_extra
from hybrid_jax.plots import COLORS, saved_axes

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hybrid_jax.evaluation.evaluate import Evaluation

PURPOSE = "--output, which draws figures,"
WRITTEN_CLASSES = 20  # more have no room for numbers
NAMED_CLASSES = 60  # more have no room for names


def check() -> None:
    """Refuse to go on without matplotlib.

    Raises:
      UserError: it is not installed.
    """
    import_extra("matplotlib", extra="study", purpose=PURPOSE)


def draw(found: "Evaluation", folder: Path) -> None:
    """Draw `confusion`, `reliability` and `coverage`, each as PNG and SVG."""
    classes = len(found.classes)
    side = float(np.clip(2.5 + 0.45 * classes, 4.0, 14.0))
    with saved_axes(folder / "confusion", PURPOSE, (side + 0.8, side)) as (axes,):
        _draw_confusion(axes, found)
    with saved_axes(folder / "reliability", PURPOSE, (4.8, 5.6), 2) as rows:
        _draw_reliability(rows, found)
    with saved_axes(folder / "coverage", PURPOSE, (5.6, 4.0)) as (axes,):
        _draw_coverage(axes, found.predictions)


def _draw_confusion(axes: "Axes", found: "Evaluation") -> None:
    matrix = confusion_matrix(found.predictions)
    images = matrix.sum(1, keepdims=True)
    shares = matrix / np.maximum(images, 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    axes.grid(visible=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(found.classes) <= NAMED_CLASSES:
        ticks = range(len(found.classes))
        names = [name[:24] for name in found.classes]
        axes.set_xticks(ticks, names, rotation=90 if len(names) > 3 else 0)
        axes.set_yticks(ticks, names)
    if len(found.classes) <= WRITTEN_CLASSES:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                text = f"{count:,}"
                axes.text(
                    column, row, text, ha="center", va="center", color=color, size=8
                )


def _draw_reliability(rows: list["Axes"], found: "Evaluation") -> None:
    upper, lower = rows
    upper.plot([0, 1], [0, 1], color="gray", lw=0.8, ls="--")
    _draw_bins(upper, reliability(found.predictions), "as trained", COLORS[0], "o")
    if found.temperature is not None:
        scaled = reliability(found.predictions.scaled(found.temperature))
        label = f"at temperature {found.temperature:.2f}"
        _draw_bins(upper, scaled, label, COLORS[1], "s")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(frameon=False)
    lower.hist(found.predictions.confidence, bins=30, range=(0, 1), color=COLORS[0])
    lower.set(xlabel="confidence", ylabel="images")


def _draw_bins(
    axes: "Axes", bins: list[Bin], label: str, color: str, marker: str
) -> None:
    """Draw a point for each bin, whose area grows with its images."""
    filled = [row for row in bins if row.images]
    confidence = [row.confidence for row in filled]
    accuracy = [row.accuracy for row in filled]
    most = max(row.images for row in filled)
    areas = [6 + 60 * row.images / most for row in filled]
    axes.plot(confidence, accuracy, color=color, lw=0.8, alpha=0.5)
    axes.scatter(
        confidence, accuracy, areas, label=label, color=color, marker=marker, alpha=0.8
    )


def _draw_coverage(axes: "Axes", predictions: Predictions) -> None:
    curve = risk_coverage(predictions)
    axes.plot(100 * curve.coverage, 100 * curve.risk, color=COLORS[0], lw=1.4)
    axes.set(
        xlabel="images that are answered, the surest first (%)",
        ylabel="errors among them (%)",
        xlim=(0, 100),
    )
    axes.set_ylim(bottom=0)
