"""Draw the figures of the pages, as SVG files that follow the reader's light or dark.

    python docs/figures.py

A figure is a grid of boxes with arrows between them. Sizes of maps are the model's own.
"""

import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.models import create_model
from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.models.registry import LETTERS
from hybrid_jax.models.strides import format_size

FOLDER = Path(__file__).parent / "images"
STYLE = """
  :root { --paper: #ffffff; --ink: #1f2328; --dim: #59636e; --plain: #f0f2f4;
          --convolution: #d5e6fb; --attention: #fde3c8; --norm: #e9e4f7;
          --data: #d9f0dd }
  @media (prefers-color-scheme: dark) { :root {
    --paper: #131416; --ink: #e6e8eb; --dim: #9aa4af; --plain: #2a2e33;
    --convolution: #1d3b5c; --attention: #5a3a1a; --norm: #38315c; --data: #1f4429 } }
  text { font: 13px system-ui, sans-serif; fill: var(--ink); text-anchor: middle }
  .dim { font-size: 11px; fill: var(--dim) }
  .arrow { fill: none; stroke: var(--dim); stroke-width: 1.5; marker-end: url(#head) }
"""
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
width="{width}" height="{height}" role="img" aria-label="{title}">
<title>{title}</title>
<style>{style}</style>
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" \
markerHeight="7" orient="auto">
<path d="M0 0 8 4 0 8z" style="fill: var(--dim)"/>
</marker>
<rect width="{width}" height="{height}" style="fill: var(--paper)"/>
"""
BOX_WIDTH, LINE, GAP, MARGIN = 232, 17, 22, 16


Place = tuple[float, float, float, float]  # x, y, width and height of a box


class Box(NamedTuple):
    """A box of a figure.

    Attributes:
      column: place from the left.
      row: place from the top.
      text: lines; the first is the name of the thing, further ones explain it.
      kind: what its color says, a variable of `STYLE`.
      module: name of the Flax module that it shows, if any.
    """

    column: int
    row: int
    text: tuple[str, ...]
    kind: str = "plain"
    module: str = ""


def write(folder: Path = FOLDER) -> None:
    """Write all figures into a folder."""
    for name, figure in figures().items():
        (folder / f"{name}.svg").write_text(figure, encoding="utf-8")


def figures() -> dict[str, str]:
    """Return every figure by the name of its file."""
    blocks = {f"block-{letter.lower()}": block(letter) for letter in BLOCKS}
    return {
        "stages": stages(),
        **blocks,
        "data-path": diagram("From a config to a step", *DATA_PATH),
        "engine": diagram("What a run does", *ENGINE),
    }


# Blocks: the steps of a branch, from the top. Each `+` adds the shortcut beside it.

_NORM = "batch norm"
SUM = ("+",)
_SHORTCUT = (
    "shortcut",
    "mean of 2x2 pixels, if strided",
    "1x1 convolution, if wider",
)


def _mbconv(spatial: Box, gate: Box) -> tuple[list[Box], list[tuple[int, int]]]:
    """Return boxes and arrows of an inverted residual, with its two variable steps."""
    steps = [
        Box(0, 0, ("map", "H x W x input width")),
        Box(0, 1, (_NORM,), "norm", "pre_norm"),
        Box(0, 2, ("1x1 convolution", "to 4 x width"), "convolution", "expand"),
        Box(0, 3, (_NORM, "GELU"), "norm", "expand_norm"),
        spatial,
        Box(0, 5, (_NORM, "GELU"), "norm", "spatial_norm"),
        gate,
        Box(0, 7, ("1x1 convolution", "to width"), "convolution", "project"),
        Box(0, 8, ("drop path", "in training")),
        Box(0, 9, SUM),
        Box(1, 5, _SHORTCUT, "convolution", "shortcut"),
    ]
    return steps, [*_chain(0, 9), (0, 10), (10, 9)]


def _chain(first: int, last: int) -> list[tuple[int, int]]:
    """Return arrows from each box of a range to the next."""
    return [(place, place + 1) for place in range(first, last)]


_DEPTHWISE = Box(
    0, 4, ("3x3 depthwise convolution", "stride 1 or 2"), "convolution", "depthwise"
)
_SQUEEZE = Box(
    0, 6, ("squeeze-excite", "a gate for each channel"), "attention", "squeeze_excite"
)
BLOCKS = {
    "C": _mbconv(_DEPTHWISE, _SQUEEZE),
    "B": _mbconv(
        _DEPTHWISE,
        Box(
            0,
            6,
            ("block attention (CBAM)", "gates for channels, then positions"),
            "attention",
            "block_attention",
        ),
    ),
    "S": _mbconv(
        Box(
            0,
            4,
            ("local self-attention", "mean of 2x2 pixels, if strided"),
            "attention",
            "local_attention",
        ),
        _SQUEEZE,
    ),
    "W": (
        [
            Box(0, 0, ("map", "H x W x input width")),
            Box(0, 1, (_NORM, "ReLU"), "norm", "pre_norm"),
            Box(
                0,
                2,
                ("3x3 convolution", "stride 1 or 2, to width"),
                "convolution",
                "conv1",
            ),
            Box(0, 3, (_NORM, "ReLU"), "norm", "norm"),
            Box(0, 4, ("3x3 convolution",), "convolution", "conv2"),
            Box(0, 5, ("drop path", "in training")),
            Box(0, 6, SUM),
            Box(
                1,
                3,
                ("1x1 convolution", "if the shape changes;", "else the map itself"),
                "convolution",
                "shortcut",
            ),
        ],
        [*_chain(0, 6), (1, 7), (7, 6)],
    ),
    "T": (
        [
            Box(1, 0, ("map", "H x W x input width")),
            Box(1, 1, ("layer norm",), "norm", "attention_norm"),
            Box(1, 2, ("mean of 2x2 pixels", "if strided")),
            Box(
                1,
                3,
                ("relative attention", "over all positions, by head"),
                "attention",
                "attention",
            ),
            Box(1, 4, ("drop path", "in training")),
            Box(1, 5, SUM),
            Box(1, 6, ("layer norm",), "norm", "mlp_norm"),
            Box(1, 7, ("MLP", "dense to 4 x width, GELU, dense"), "convolution", "mlp"),
            Box(1, 8, ("drop path", "in training")),
            Box(1, 9, SUM),
            Box(2, 3, _SHORTCUT, "convolution", "shortcut"),
            Box(0, 7, ("shortcut", "the map itself")),
        ],
        [*_chain(0, 9), (0, 10), (10, 5), (5, 11), (11, 9)],
    ),
    "M": (
        [
            Box(0, 0, ("map", "H x W x input width")),
            Box(0, 1, ("block C", "carries the stride"), "convolution", "conv"),
            Box(0, 2, ("block T", "in windows of neighbors"), "attention", "block"),
            Box(0, 3, ("block T", "over a grid of far positions"), "attention", "grid"),
            Box(0, 4, ("map", "H/stride x W/stride x width")),
        ],
        _chain(0, 4),
    ),
}

DATA_PATH = (
    [
        Box(1, 0, ("config", "data.name, data.path, seed")),
        Box(1, 1, ("source", "folder, table, TFDS or arrays"), "data"),
        Box(1, 2, ("splits", "training, validation, test"), "data"),
        Box(0, 3, ("resident", "all images on the device"), "data"),
        Box(2, 3, ("streamed", "decoded in threads, ahead"), "data"),
        Box(0, 4, ("sampler", "seed and step give the images"), "norm"),
        Box(1, 4, ("batch", "uint8 images and labels"), "data"),
        Box(0, 5, ("random numbers", "seed and step give the key"), "norm"),
        Box(1, 5, ("augmentation", "on the device"), "attention"),
        Box(1, 6, ("network", "loss and gradients"), "convolution"),
        Box(1, 7, ("state", "weights, moments, averages, step")),
    ],
    [*_chain(0, 3), (2, 4), (3, 6), (4, 6), (5, 6), (6, 8), (7, 8), *_chain(8, 10)],
)
ENGINE = (
    [
        Box(0, 0, ("load", "config, images, devices")),
        Box(0, 1, ("compile", "training and evaluation"), "convolution"),
        Box(0, 2, ("restore", "the newest checkpoint, if any"), "data"),
        Box(0, 3, ("train", "steps up to the next evaluation"), "convolution"),
        Box(0, 4, ("evaluate", "the validation split"), "norm"),
        Box(0, 5, ("save", "a checkpoint, in the background"), "data"),
        Box(1, 3, ("repeat", "until the last step")),
        Box(0, 6, ("choose", "the best on validation, or the last")),
        Box(0, 7, ("test", "the test split, once"), "norm"),
        Box(0, 8, ("write", "results.json and report.html"), "data"),
        Box(2, 3, ("signal", "Ctrl-C, SIGTERM"), "attention"),
        Box(2, 5, ("save and end", "the same command resumes"), "data"),
    ],
    [*_chain(0, 5), (5, 6), (6, 3), (5, 7), (7, 8), (8, 9), (10, 11)],
)


def block(letter: str) -> str:
    """Return the figure of a letter's block."""
    return diagram(f"Block {letter}: {LETTERS[letter].summary}", *BLOCKS[letter])


def diagram(title: str, boxes: list[Box], arrows: Iterable[tuple[int, int]]) -> str:
    """Return a figure of boxes on a grid.

    Args:
      title: what the figure shows, for readers who cannot see it.
      boxes: of any columns and rows.
      arrows: from one box to another, as places in `boxes`.
    """
    rows = [
        max((len(box.text) for box in boxes if box.row == row), default=1)
        for row in range(1 + max(box.row for box in boxes))
    ]
    heights = [lines * LINE + 14 for lines in rows]
    tops = [MARGIN + sum(heights[:row]) + GAP * row for row in range(len(rows))]
    places = []
    for box in boxes:
        height = len(box.text) * LINE + 14
        x = MARGIN + box.column * (BOX_WIDTH + 2 * GAP)
        y = tops[box.row] + (heights[box.row] - height) / 2
        places.append((x, y, BOX_WIDTH, height))
    drawn = [
        _arrow(places[start], places[end], back=boxes[end].text == SUM)
        for start, end in arrows
    ]
    drawn += [
        _box(*place, box.text, box.kind)
        for place, box in zip(places, boxes, strict=True)
    ]
    columns = 1 + max(box.column for box in boxes)
    width = 2 * MARGIN + columns * BOX_WIDTH + (columns - 1) * 2 * GAP
    return _page(title, width, tops[-1] + heights[-1] + MARGIN, drawn)


def stages(name: str = "astroformer_0", image_size: int = 224) -> str:
    """Return the figure of a model's stages; boxes are as wide as maps are large."""
    model = create_model(name, 1000, image_size)
    sides = format_size((image_size, image_size))
    names = ["stem", *(f"stage {number}" for number in range(1, 5))]
    repeated = ["two 3x3 convolutions", *_stacks(model)]
    widths = [model.stem_widths[-1], *model.widths]
    rows = [(("image",), "data", image_size, f"{sides} x 3")]
    for title, blocks, width, size in zip(
        names, repeated, widths, model.map_sizes, strict=True
    ):
        kind = "attention" if blocks.startswith("T") else "convolution"
        rows.append(((title, blocks), kind, size[0], f"{format_size(size)} x {width}"))
    head = ("head", "mean, norm, dense, tanh, dense")
    rows.append((head, "norm", rows[-1][2], "1,000 logits"))

    drawn, height, middle = [], 2 * LINE + 10, MARGIN + 150
    for place, (text, kind, side, result) in enumerate(rows):
        y = MARGIN + place * (height + GAP)
        width = 200 + 20 * math.log2(side / rows[-1][2])
        drawn.append(_box(middle - width / 2, y, width, height, text, kind))
        drawn.append(
            f'<text class="dim" x="{middle + 210:g}" y="{y + height / 2 + 4:g}">'
            f"{result}</text>"
        )
        if place:
            path = f"M{middle} {y - GAP}V{y - 2}"
            drawn.append(f'<path class="arrow" d="{path}"/>')
    total = len(rows) * (height + GAP) - GAP + 2 * MARGIN
    return _page(f"The stages of {name} at {sides} pixels", middle + 270, total, drawn)


def _stacks(model: HybridNet) -> list[str]:
    """Return what each stage repeats, such as `C, 2 times`."""
    return [
        f"{letter}, {depth} times"
        for letter, depth in zip(model.stack, model.depths, strict=True)
    ]


def _page(title: str, width: float, height: float, drawn: list[str]) -> str:
    head = HEAD.format(
        title=escape(title), style=STYLE, width=f"{width:g}", height=f"{height:g}"
    )
    return "\n".join([head + drawn[0], *drawn[1:], "</svg>", ""])


def _box(
    x: float, y: float, width: float, height: float, text: tuple[str, ...], kind: str
) -> str:
    """Return a box with lines of text in its middle."""
    first = y + height / 2 - (len(text) - 1) * LINE / 2 + 4.5
    lines = [
        f'<text class="{"dim" if number else "name"}" x="{x + width / 2:g}" '
        f'y="{first + number * LINE:g}">{escape(line)}</text>'
        for number, line in enumerate(text)
    ]
    box = (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
        f'style="fill: var(--{kind})"/>'
    )
    return "\n".join([box, *lines])


def _arrow(start: Place, end: Place, back: bool) -> str:
    """Return a line from one box to another, with one corner at most.

    Args:
      start: the box that it leaves.
      end: the box that it reaches.
      back: whether the line reaches a side of the box, and not its top or bottom.
    """
    (x1, y1, w1, h1), (x2, y2, w2, h2) = start, end
    middle1, middle2 = y1 + h1 / 2, y2 + h2 / 2
    out = x1 + w1 if x2 > x1 else x1
    side = x2 - 2 if x2 > x1 else x2 + w2 + 2
    if x1 == x2:
        path = f"M{x1 + w1 / 2:g} {y1 + h1:g}V{y2 - 2:g}"
    elif middle1 == middle2:
        path = f"M{out:g} {middle1:g}H{side:g}"
    elif back:
        edge = y1 + h1 if y2 > y1 else y1
        path = f"M{x1 + w1 / 2:g} {edge:g}V{middle2:g}H{side:g}"
    else:
        edge = y2 - 2 if y2 > y1 else y2 + h2 + 2
        path = f"M{out:g} {middle1:g}H{x2 + w2 / 2:g}V{edge:g}"
    return f'<path class="arrow" d="{path}"/>'


if __name__ == "__main__":
    write()
