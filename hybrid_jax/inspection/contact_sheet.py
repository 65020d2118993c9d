"""Draw pictures of a data set: some images of each class, and its duplicates."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.inspection.checks import Finding
from hybrid_jax.inspection.near_duplicates import SAME, Pair
from hybrid_jax.inspection.scan import ScannedImages
from hybrid_jax.paths import replacing
from hybrid_jax.sheets import (
    BACKGROUND,
    GAP,
    MARGIN,
    PALE_TEXT_COLOR,
    TEXT_COLOR,
    Color,
    Point,
    draw_text,
    paste_image,
)

# Behind the images of each split.
COLORS: list[Color] = [(228, 236, 246), (226, 243, 226), (250, 231, 211)]
SPLIT_COLORS = dict(zip(SPLITS, itertools.cycle(COLORS), strict=False))
MAX_PAIRS, PAIR_COLUMNS = 40, 2
PAIR = 136  # side of an image of a pair, in pixels
PAIR_TEXT = 400  # width of its text, in pixels


class Layout(NamedTuple):
    """Sizes of a contact sheet, in pixels.

    Attributes:
      cell: side of an image.
      train, held_out: numbers of images of a split in a row.
      label: width of the class name.
      text: size of the text.
    """

    cell: int
    train: int
    held_out: int
    label: int = 170
    text: int = 14

    @property
    def row(self) -> int:
        """Height of a row."""
        return self.cell + GAP

    def count(self, split: str) -> int:
        """Return how many images of a split a row shows."""
        return self.train if split == "train" else self.held_out

    def start(self, splits: Sequence[str]) -> int:
        """Return where in a row the images begin that follow some splits."""
        return self.label + sum(self.count(s) * self.row + 2 * GAP for s in splits)


FILES = SHEET, PAIRS = "contact_sheet.png", "duplicates.png"
# By the most classes that a layout has room for; the first that suffices is used.
LAYOUTS = {
    12: Layout(cell=104, train=8, held_out=3),
    40: Layout(cell=72, train=7, held_out=3),
    math.inf: Layout(cell=48, train=5, held_out=2, label=150, text=12),
}


def write(folder: Path, images: ScannedImages, findings: list[Finding]) -> list[str]:
    """Write `contact_sheet.png` and, if there are any, `duplicates.png`.

    Returns:
      The names of what was written.
    """
    pairs = [
        (finding.check.name, item)
        for finding in findings
        for item in finding.items
        if item.pair
    ]
    pictures = {SHEET: contact_sheet(images)}
    if pairs:
        pictures[PAIRS] = duplicates(images, pairs)
    else:  # remove that of an earlier inspection
        (folder / PAIRS).unlink(missing_ok=True)
    for name, picture in pictures.items():
        with replacing(folder / name) as scratch:
            picture.save(scratch, "PNG", optimize=True)
    return [*pictures]


def contact_sheet(images: ScannedImages) -> Image.Image:
    """Draw some images of each class in a row: training images, then held-out ones.

    Many classes take several columns. Small images are enlarged by whole factors.
    """
    classes = len(images.classes)
    layout = next(layout for most, layout in LAYOUTS.items() if classes <= most)
    width = layout.start(images.splits)
    # The sheet is about as high as it is wide.
    columns = max(1, round(math.sqrt(classes * layout.row / width)))
    rows = math.ceil(classes / columns)
    top = 2 * MARGIN + layout.text
    sheet = Image.new(
        "RGB",
        (
            MARGIN + columns * (width + MARGIN),
            top + rows * layout.row + MARGIN,
        ),
        BACKGROUND,
    )
    for label in range(classes):
        column, row = divmod(label, rows)
        left = MARGIN + column * (width + MARGIN)
        if row == 0:
            _draw_headings(sheet, layout, images.splits, left)
        _draw_class(sheet, layout, images, label, (left, top + row * layout.row))
    return sheet


def duplicates(images: ScannedImages, pairs: list[tuple]) -> Image.Image:
    """Draw pairs side by side, the worst first, with their check and names.

    Args:
      images: images of the data set.
      pairs: pairs of a check's name and an item that it found, in the order of
        `CHECKS`.
    """
    shown = pairs[:MAX_PAIRS]
    columns = min(PAIR_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    width, height = 2 * (PAIR + GAP) + PAIR_TEXT + 2 * MARGIN, PAIR + MARGIN
    top = 2 * MARGIN + 16
    size = MARGIN + columns * width, top + rows * height
    sheet = Image.new("RGB", size, BACKGROUND)
    more = f", of which {len(shown)} are shown" if len(pairs) > len(shown) else ""
    title = f"{images.found.title}: {len(pairs):,} pairs{more}"
    draw_text(sheet, title, (MARGIN, MARGIN), sheet.width - 2 * MARGIN, 16)
    for number, (kind, item) in enumerate(shown):
        row, column = divmod(number, columns)
        corner = MARGIN + column * width, top + row * height
        _draw_pair(sheet, images, kind, item.pair, corner)
    return sheet


def _draw_pair(
    sheet: Image.Image, images: ScannedImages, kind: str, pair: Pair, corner: Point
) -> None:
    left, top = corner
    x = left + 2 * (PAIR + GAP) + 2 * GAP
    text = pair.band if pair.band == SAME else f"{pair.summary} ({pair.band})"
    lines = [(kind, 14, TEXT_COLOR), (text, 13, TEXT_COLOR)]
    for column, number in enumerate((pair.first, pair.second)):
        color = SPLIT_COLORS[images.split(number)]
        picture = images.picture(number)
        corner = left + column * (PAIR + GAP), top
        paste_image(sheet, picture, corner, PAIR, color)
        where = f"{images.split(number)}, {images.class_of(number)}"
        lines += [(images.name(number), 13, TEXT_COLOR), (where, 12, PALE_TEXT_COLOR)]
    for line, (text, size, color) in enumerate(lines):
        y = top + 21 * line + (line > 1) * GAP + (line > 3) * GAP
        draw_text(sheet, text, (x, y), PAIR_TEXT, size, color)


def _draw_headings(
    sheet: Image.Image, layout: Layout, splits: Sequence[str], left: int
) -> None:
    for number, split in enumerate(splits):
        x = left + layout.start(splits[:number])
        width = layout.count(split) * layout.row
        draw_text(sheet, split, (x, MARGIN), width, layout.text)


def _draw_class(
    sheet: Image.Image, layout: Layout, images: ScannedImages, label: int, corner: Point
) -> None:
    left, top = corner
    counts = images.counts()[label]
    middle = top + layout.cell // 2
    width = layout.label - 2 * GAP
    name = images.classes[label]
    draw_text(sheet, name, (left, middle - layout.text - 2), width, layout.text)
    numbers = " + ".join(f"{count:,}" for count in counts)
    below = left, middle + 2
    draw_text(sheet, numbers, below, width, layout.text - 2, PALE_TEXT_COLOR)
    for column, split in enumerate(images.splits):
        rows = np.flatnonzero((images.labels == label) & (images.split_index == column))
        x = left + layout.start(images.splits[:column])
        for number in _evenly_spaced(rows, layout.count(split)):
            picture, color = images.picture(number), SPLIT_COLORS[split]
            paste_image(sheet, picture, (x, top), layout.cell, color)
            x += layout.row


def _evenly_spaced(rows: np.ndarray, count: int) -> Iterable[int]:
    """Return some rows, evenly spaced from the first to the last."""
    if len(rows) <= count:
        return rows.tolist()
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)].tolist()
