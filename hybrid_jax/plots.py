"""What all figures have in common: how they look, and that no half of one is left."""

import contextlib
import typing
from collections.abc import Iterator
from pathlib import Path

from hybrid_jax.extras import import_extra

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")
# Colors that the color-blind tell apart (Okabe & Ito 2008), but for black and yellow.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@contextlib.contextmanager
def saved_axes(
    path: Path,
    purpose: str,
    size: tuple[float, float] = (6.4, 4.0),
    rows: int = 1,
    formats: tuple[str, ...] = FORMATS,
) -> Iterator[list["Axes"]]:
    """Give axes, one above the other with one x axis, and save what is drawn in them.

    Args:
      path: without a suffix; each format gets a file.
      purpose: what needs matplotlib, for the message where it is missing.
      size: inches.
      rows: number of axes.
      formats: of the files.

    Raises:
      UserError: matplotlib is not installed.
    """
    import_extra("matplotlib", extra="study", purpose=purpose)
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    # SVG of the same results is the same text, so that a repository can hold it.
    style = {"svg.hashsalt": "hybrid_jax", "font.size": 10, "axes.axisbelow": True}
    with plt.rc_context(style):  # type: ignore[arg-type]
        figure, found = plt.subplots(rows, sharex=True, figsize=size, squeeze=False)
        try:
            for each in found[:, 0]:
                each.spines[["top", "right"]].set_visible(False)
                each.grid(alpha=0.3)
            yield [*found[:, 0]]
            figure.tight_layout()
            for name in formats:
                scratch = path.with_name(f".{path.name}.{name}")
                about = {"Date": None} if name == "svg" else None
                figure.savefig(scratch, dpi=150, format=name, metadata=about)
                scratch.replace(path.with_name(f"{path.name}.{name}"))
        finally:
            plt.close(figure)
