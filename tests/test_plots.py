"""Figures in pages: what the page may restyle, and what it may not."""

import html
import re

from hybrid_jax.plots import COLORS, inline_svg


def test_names_are_shown_as_they_are_and_ids_are_unique():
    """A class may be called as the parts of an SVG that are rewritten."""
    name = f'url(#1) id="7 {COLORS[0].lower()} font: 5px serif; <b>'

    def draw(rows):
        (axes,) = rows
        axes.plot([0, 1], [0, 1], color=COLORS[0])
        axes.set_title(name)

    svg = inline_svg(draw, name="run-1", alt="a line", size=(3, 3), rows=1)
    shown = re.sub("<[^>]*>", "", svg)
    assert name in html.unescape(shown)
    assert f"var(--series-1, {COLORS[0].lower()})" in svg
    ids = re.findall(r'\bid="([^"]*)"', re.sub(">[^<]*<", "><", svg))
    assert ids
    assert all(found.startswith("run-1-") for found in ids)
