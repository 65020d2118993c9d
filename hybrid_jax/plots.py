"""Draw figures in one style, and save each of them completely or not at all."""

import contextlib
import html
import io
import re
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hybrid_jax.paths import replacing
from hybrid_jax.sheets import SYSTEM_FONTS

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
# Colors that color-blind readers can tell apart (Okabe & Ito 2008); no black or yellow.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#010203"  # color of text and axes, replaced by the text color of a page
INKED = ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color"]
INKED += ["ytick.color"]
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@contextlib.contextmanager
def saved_axes(
    path: Path,
    size: tuple[float, float] = (6.4, 4.0),
    rows: int = 1,
    formats: tuple[str, ...] = FORMATS,
    columns: int = 1,
) -> Iterator[list["Axes"]]:
    """Yield axes, and save what is drawn in them.

    Axes in a single column share their x axis; in several columns, they share their y
    axis. A legend of the whole figure is placed below the axes.

    Args:
      path: path of the figure without a suffix; each format gets a file.
      size: width and height in inches.
      rows: number of axes in a column.
      formats: suffixes of the files to write.
      columns: number of axes in a row.
    """
    style = {"font.family": ["sans-serif", *_system_families()]}
    with _new_figure(size, rows, style, columns) as (figure, axes):
        yield axes
        heights = (legend.get_window_extent().height for legend in figure.legends)
        below = sum(heights) / figure.bbox.height
        figure.tight_layout(rect=(0, below, 1, 1))
        for name in formats:
            about = {"Date": None} if name == "svg" else None
            with replacing(path.with_name(f"{path.name}.{name}")) as scratch:
                figure.savefig(scratch, dpi=150, format=name, metadata=about)


def inline_svg(
    draw: Callable[[list["Axes"]], None],
    name: str,
    alt: str,
    size: tuple[float, float] = (6.4, 4.0),
    rows: int = 1,
) -> str:
    """Draw a figure, and return it as an SVG element in the colors of a page.

    Text and axes take the color of the text around the figure. Lines take the colors of
    the CSS variables `--series-1`, `--series-2`, ..., if the page sets them, so that a
    dark page can have lighter lines.

    Args:
      draw: draws in axes that lie one above the other and share their x axis.
      name: prefix of the ids in the figure, which makes them unique in the page.
      alt: what the figure shows, for readers who cannot see it.
      size: width and height in inches.
      rows: number of axes.
    """
    style = dict.fromkeys(INKED, INK) | {"svg.fonttype": "none"}
    text = io.StringIO()
    with _new_figure(size, rows, style) as (figure, axes):
        draw(axes)
        figure.tight_layout()
        figure.savefig(
            text, dpi=150, format="svg", metadata=NO_METADATA, transparent=True
        )
    return _fit_for_page(text.getvalue(), name, alt)


def _fit_for_page(svg: str, name: str, alt: str) -> str:
    """Return an SVG document as an element with unique ids and the page's colors."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)

    def rewrite(tag: re.Match) -> str:
        text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag[0])
        family = "system-ui, sans-serif"
        text = re.sub(r"(font: [\w. ]*?[\d.]+px) [^;\"]*", rf"\1 {family}", text)
        text = text.replace(INK, "currentColor")
        for number, color in enumerate(map(str.lower, COLORS), 1):
            text = text.replace(color, f"var(--series-{number}, {color})")
        return text

    svg = re.sub(r"<[^>]*>", rewrite, svg)  # words that are shown stay as they are
    label = html.escape(alt)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _system_families() -> list[str]:
    """Return the families of `SYSTEM_FONTS` that are installed."""
    from matplotlib.font_manager import fontManager

    families = {Path(font.fname).name: font.name for font in fontManager.ttflist}
    return [families[file] for file in SYSTEM_FONTS if file in families]


@contextlib.contextmanager
def _new_figure(
    size: tuple[float, float],
    rows: int,
    style: dict[str, Any] | None = None,
    columns: int = 1,
) -> Iterator[tuple["Figure", list["Axes"]]]:
    """Yield a figure and its axes, row by row, and close it at the end."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    # The salt makes SVG files of equal results equal, so that git sees no change.
    look = {"svg.hashsalt": "hybrid_jax", "font.size": 10, "axes.axisbelow": True}
    with warnings.catch_warnings(), plt.rc_context(look | (style or {})):  # type: ignore[arg-type]
        # A page's fonts have the letters that matplotlib's font lacks. In a file, a
        # letter that no font has is a box, but the tables have it.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure, found = plt.subplots(
            rows,
            columns,
            sharex=columns == 1,
            sharey=columns > 1,
            figsize=size,
            squeeze=False,
        )
        try:
            for each in found.flat:
                each.spines[["top", "right"]].set_visible(False)
                each.grid(alpha=0.3)
            yield figure, [*found.flat]
        finally:
            plt.close(figure)
