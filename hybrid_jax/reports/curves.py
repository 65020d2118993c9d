"""Learning curves: loss and accuracy of training and validation, against epochs."""

import typing
from collections.abc import Sequence

from hybrid_jax.checkpoints.reader import Steps
from hybrid_jax.plots import COLORS, inline_svg

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = ("loss", "accuracy")
SPLITS = {"train": COLORS[0], "validation": COLORS[1]}
Points = tuple[list[float], list[float]]


def learning_curves(history: Sequence[dict], checkpoint: Steps, prefix: str) -> str:
    """Draw learning curves as SVG; empty where there is nothing to draw.

    Args:
      history: rows of metrics of a run.
      checkpoint: the step or steps whose weights were chosen, which a line marks.
      prefix: begins the ids of elements.
    """
    lines = {
        (metric, split): points(history, split, metric)
        for metric in METRICS
        for split in SPLITS
    }
    if not any(x for x, _ in lines.values()):
        return ""
    chosen = [r["epoch"] for r in history if r.get("step") == checkpoint]

    def draw(rows: list["Axes"]) -> None:
        for axes, metric in zip(rows, METRICS, strict=True):
            scale = 100 if metric == "accuracy" else 1
            for split, color in SPLITS.items():
                x, y = lines[metric, split]
                if not x:
                    continue  # such as without a validation split
                marker = "o" if len(x) < 30 else ""
                shown = [scale * value for value in y]
                axes.plot(x, shown, marker=marker, ms=3, color=color, label=split)
            for epoch in chosen[-1:]:
                axes.axvline(epoch, color="gray", lw=0.8, ls=":")
        rows[0].set_ylabel("loss (nats)")
        rows[0].legend(frameon=False)
        rows[1].set(ylabel="accuracy (%)", xlabel="epoch")

    return inline_svg(
        draw,
        name=f"{prefix}-curves",
        alt="Learning curves: loss and accuracy against epochs",
        size=(5.2, 4.8),
        rows=2,
    )


def points(history: Sequence[dict], split: str, metric: str) -> Points:
    """Return epochs and values of a metric of a split.

    If a resumed run has repeated a step, its last row counts.
    """
    found = {
        row["step"]: (row["epoch"], row[metric])
        for row in history
        if row.get("split") == split and {"step", "epoch", metric} <= row.keys()
    }
    rows = [found[step] for step in sorted(found)]
    return [x for x, _ in rows], [y for _, y in rows]
