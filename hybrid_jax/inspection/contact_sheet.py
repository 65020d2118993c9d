"""Pictures of a data set: some images of each class, and its duplicates."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from hybrid_jax.inspection.checks import Finding
from hybrid_jax.inspection.lettering import letters
from hybrid_jax.inspection.near_duplicates import SAME, Pair
from hybrid_jax.inspection.scan import Images

PAPER, INK, PALE = (255, 255, 255), (20, 20, 20), (110, 110, 110)
# Behind the images.
TINTS = {
    "train": (228, 236, 246),
    "validation": (226, 243, 226),
    "test": (250, 231, 211),
}
GAP, MARGIN = 4, 16
MOST_PAIRS, PAIR_COLUMNS = 40, 2
PAIR = 136  # a side of its squares, and the width of what is said of it
PAIR_TEXT = 330


class Layout(NamedTuple):
    """Of a contact sheet, in pixels. The more classes, the smaller are the images.

    It has so many images of the training split, and of each split that is held out.
    """

    cell: int
    train: int
    held_out: int
    label: int = 170
    text: int = 14

    @property
    def row(self) -> int:
        return self.cell + GAP

    def count(self, split: str) -> int:
        """How many images of a split stand in a row."""
        return self.train if split == "train" else self.held_out

    def start(self, splits: Sequence[str]) -> int:
        """Where what follows some splits begins in a class's row."""
        return self.label + sum(self.count(s) * self.row + 2 * GAP for s in splits)


# Up to so many classes: the first row that fits.
LAYOUTS = {
    12: Layout(cell=104, train=8, held_out=3),
    40: Layout(cell=72, train=7, held_out=3),
    math.inf: Layout(cell=48, train=5, held_out=2, label=150, text=12),
}


def write(folder: Path, images: Images, findings: list[Finding]) -> list[str]:
    """Writes `contact_sheet.png` and, if there are any, `duplicates.png`.

    Returns:
      The names of what was written.
    """
    pairs = [
        (finding.check.name, item)
        for finding in findings
        for item in finding.items
        if item.pair
    ]
    pictures = {"contact_sheet.png": contact_sheet(images)}
    if pairs:
        pictures["duplicates.png"] = duplicates(images, pairs)
    else:  # of an earlier look
        (folder / "duplicates.png").unlink(missing_ok=True)
    for name, picture in pictures.items():
        picture.save(folder / name, optimize=True)
    return [*pictures]


def contact_sheet(images: Images) -> Image.Image:
    """Some images of each class, a row each: of training, and held-out ones beside it.

    Many classes stand in several columns. Small images are enlarged by whole factors,
    their pixels left square.
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
        PAPER,
    )
    for label in range(classes):
        column, row = divmod(label, rows)
        left = MARGIN + column * (width + MARGIN)
        if row == 0:
            _heads(sheet, layout, images.splits, left)
        _class_row(sheet, layout, images, label, left, top + row * layout.row)
    return sheet


def duplicates(images: Images, pairs: list[tuple]) -> Image.Image:
    """Pairs side by side, the worst first: what a check calls them, and their names.

    Args:
      images: of the data set.
      pairs: the name of a check and its item, in the order of `CHECKS`.
    """
    shown = pairs[:MOST_PAIRS]
    columns = min(PAIR_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    width, height = 2 * (PAIR + GAP) + PAIR_TEXT + 2 * MARGIN, PAIR + MARGIN
    top = 2 * MARGIN + 16
    size = MARGIN + columns * width, top + rows * height
    sheet = Image.new("RGB", size, PAPER)
    more = f", of which {len(shown)} are shown" if len(pairs) > len(shown) else ""
    title = f"{images.found.title}: {len(pairs):,} pairs{more}"
    _write(sheet, title, MARGIN, MARGIN, sheet.width - 2 * MARGIN, 16, INK)
    for number, (kind, item) in enumerate(shown):
        row, column = divmod(number, columns)
        left, y = MARGIN + column * width, top + row * height
        _pair(sheet, images, kind, item.pair, left, y)
    return sheet


def _pair(
    sheet: Image.Image, images: Images, kind: str, pair: Pair, left: int, top: int
) -> None:
    x = left + 2 * (PAIR + GAP) + 2 * GAP
    said = pair.band if pair.band == SAME else f"{pair.described} ({pair.band})"
    lines = [(kind, 14, INK), (said, 13, INK)]
    for place, number in enumerate((pair.first, pair.second)):
        tint = TINTS[images.split(number)]
        picture = images.picture(number)
        _paste(sheet, picture, left + place * (PAIR + GAP), top, PAIR, tint)
        where = f"{images.split(number)}, {images.class_of(number)}"
        lines += [(images.name(number), 13, INK), (where, 12, PALE)]
    for line, (text, size, ink) in enumerate(lines):
        y = top + 21 * line + (line > 1) * GAP + (line > 3) * GAP
        _write(sheet, text, x, y, PAIR_TEXT, size, ink)


def _heads(
    sheet: Image.Image, layout: Layout, splits: Sequence[str], left: int
) -> None:
    for number, split in enumerate(splits):
        x = left + layout.start(splits[:number])
        width = layout.count(split) * layout.row
        _write(sheet, split, x, MARGIN, width, layout.text, INK)


def _class_row(
    sheet: Image.Image, layout: Layout, images: Images, label: int, left: int, top: int
) -> None:
    counts = images.counts()[label]
    middle = top + layout.cell // 2
    width = layout.label - 2 * GAP
    name = images.classes[label]
    _write(sheet, name, left, middle - layout.text - 2, width, layout.text, INK)
    counted = " + ".join(f"{count:,}" for count in counts)
    _write(sheet, counted, left, middle + 2, width, layout.text - 2, PALE)
    for place, split in enumerate(images.splits):
        rows = np.flatnonzero((images.labels == label) & (images.of_split == place))
        x = left + layout.start(images.splits[:place])
        for number in _spread(rows, layout.count(split)):
            _paste(sheet, images.picture(number), x, top, layout.cell, TINTS[split])
            x += layout.row


def _spread(rows: np.ndarray, count: int) -> Iterable[int]:
    """Some rows, from the first to the last."""
    if len(rows) <= count:
        return rows.tolist()
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)].tolist()


def _paste(
    sheet: Image.Image, image: Image.Image, left: int, top: int, side: int, tint: tuple
) -> None:
    """An image in the middle of a tinted square, as large as it fits in its frame."""
    ImageDraw.Draw(sheet).rectangle((left, top, left + side - 1, top + side - 1), tint)
    factor = (side - 2 * GAP) / max(image.size)
    if factor >= 1:
        size = [int(factor) * n for n in image.size]
        image = image.resize(size, Image.Resampling.NEAREST)
    else:
        size = [max(1, round(factor * n)) for n in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS)
    x, y = left + (side - image.width) // 2, top + (side - image.height) // 2
    sheet.paste(image, (x, y))


def _write(
    sheet: Image.Image, text: str, left: int, top: int, width: int, size: int, ink
) -> None:
    shown, font = letters(text, size, width)
    # From the top of capitals, whatever font it is.
    baseline = left, top + size
    ImageDraw.Draw(sheet).text(baseline, shown, ink, font, anchor="ls")
