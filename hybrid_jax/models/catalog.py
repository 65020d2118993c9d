"""Tables of all models, for `docs/reference/models.md` and for `hybrid-jax models`."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.errors import UserError
from hybrid_jax.models import create_model
from hybrid_jax.models.registry import LETTERS, MODELS, HybridRow, PerStage, ViTRow
from hybrid_jax.paths import replacing

START, END = "<!-- models -->", "<!-- /models -->"


class Group(NamedTuple):
    """Models that share a table.

    Attributes:
      names: regular expression that matches the whole name of a model.
      text: description of the models, in Markdown.
      folded: label to click on to see the table; empty if it is always visible.
    """

    names: str
    text: str
    folded: str = ""


GROUPS = (
    Group(
        "astroformer_[^_]+",
        "**Astroformer** ([Dagli 2023](https://arxiv.org/abs/2304.05350)): "
        "convolutions, and relative attention in the last stage alone. femto, pico and "
        "nano are our own sizes, for small images and for CPUs.",
    ),
    Group(
        "astroformer_[^_]+_c[ct]{3}",
        "The other orders of convolutions and transformers that the Astroformer paper "
        "compares, one per suffix.",
        folded="Astroformer with other stacks",
    ),
    Group(
        "coatnet_[0-7]",
        "**CoAtNet** ([Dai et al. 2021](https://arxiv.org/abs/2106.04803)): relative "
        "attention in the last two stages. In the third stage of sizes 6 and 7, "
        "convolutions come first, and the transformers after them are wider.",
    ),
    Group(
        "coatnet_.*_rw2?",
        "CoAtNets as timm made and trained them before the originals were released; "
        "their blocks differ in details from the paper's and from each other. The "
        "bias of `rmlp` is an MLP of the offset (Swin V2, "
        "[Liu et al. 2022](https://arxiv.org/abs/2111.09883)).",
        folded="timm's own CoAtNets",
    ),
    Group(
        "maxvit_.*",
        "**MaxViT** ([Tu et al. 2022](https://arxiv.org/abs/2204.01697)): every block "
        "is a convolution, attention among neighbors and attention over a grid.",
    ),
    Group(
        r"wrn_\d+_\d+",
        "**Wide ResNet** ([Zagoruyko & Komodakis 2016]"
        "(https://arxiv.org/abs/1605.07146)): depth and width are in the name, and the "
        "strides are those for CIFAR at any image size.",
    ),
    Group(
        "wrn_.*_w+t",
        "Hybrids of this project: wide residual networks with relative attention in "
        "the third stage, or in a fourth, which is one block behind the others.",
    ),
    Group(
        "vit_.*",
        "**ViT** ([Dosovitskiy et al. 2021](https://arxiv.org/abs/2010.11929)): "
        "attention between patches and no convolution. On smaller images the patches "
        "are smaller. femto, pico and nano are ours, with about as many parameters as "
        "Astroformer's.",
    ),
    Group(
        "cbam_.*",
        "Convolutions gated by channel and by position ([Woo et al. 2018]"
        "(https://arxiv.org/abs/1807.06521)) in the sizes of Astroformer.",
        folded="CBAM",
    ),
    Group(
        "sasa_.*",
        "Every position attends to the 7x7 positions around it ([Ramachandran et al. "
        "2019](https://arxiv.org/abs/1906.05909)), in place of the depthwise "
        "convolution, in the sizes of Astroformer.",
        folded="Stand-alone self-attention",
    ),
)

# What the tests compare with an oracle, by model name; the first match counts.
COMPARED = {
    "logits": "astroformer_0|coatnet_0|maxvit_tiny|vit_tiny"
    "|(astroformer|cbam)_(pico|nano)(_c...)?",
    "shapes, narrow logits": "coatnet_.*_rw2?",
    "shapes": "astroformer_(5|0_cccc|0_cttt|femto.*)|cbam_(5|femto)|coatnet_5"
    "|(max)?vit_.*",
    "narrow logits": "coatnet_[67]",
    "attention": "sasa_.*",
    "logits, gradients": r"wrn_16_[14]",
    "blocks": "wrn_.*",
    "sizes": ".*",
}


def write(path: Path) -> str:
    """Replace the tables between the two marks of a file; return what was done.

    Raises:
      UserError: the file has no such marks.
      OSError: it cannot be read or written.
    """
    before, _, rest = path.read_bytes().partition(START.encode())
    _, end, after = rest.partition(END.encode())
    if not end:
        raise UserError(f"{path} has no {START} followed by {END}: add both")
    with replacing(path) as scratch:
        scratch.write_bytes(before + f"{START}\n{tables()}\n{END}".encode() + after)
    return f"{len(MODELS)} models in {path}"


def tables() -> str:
    """Format all models in Markdown, one table for each group."""
    letters = "\n".join(f"- {letter}: {row.summary}" for letter, row in LETTERS.items())
    return "\n\n".join([letters, *map(_section, GROUPS)])


def _section(group: Group) -> str:
    """Format the text and the table of a group."""
    names = [name for name in MODELS if re.fullmatch(group.names, name)]
    text = textwrap.fill(group.text, 88, break_long_words=False, break_on_hyphens=False)
    table = f"{text}\n\n{_table(names)}"
    if not group.folded:
        return table
    return (
        f"<details>\n<summary>{group.folded} ({len(names)} models)</summary>\n\n"
        f"{table}\n\n</details>"
    )


def _table(names: list[str]) -> str:
    """Format models as a Markdown table."""
    columns = [_columns(name) for name in names]
    rows = [[*columns[0]], ["---"] * len(columns[0]), *([*c.values()] for c in columns)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _columns(name: str) -> dict[str, str]:
    """Return the cells of a model's row, by column title."""
    from hybrid_jax.models.cost import cost

    model, row = create_model(name), MODELS[name]
    counted = cost(model)
    if isinstance(row, ViTRow):
        made_of = {
            "patches": f"{model.patch_size} px",
            "width": str(row.width),
            "depth": str(row.depth),
        }
    else:
        made_of = {
            "stack": "-".join(row.stack),
            "widths": _per_stage(row.widths),
            "depths": _per_stage(row.depths),
        }
    return {
        "name": f"`{name}`",
        **made_of,
        "parameters": f"{counted.parameters / 1e6:.2f} M",
        "GMACs": f"{counted.macs / 1e9:.2f}",
        "oracle": _oracle(row),
        "compared": compared(name),
    }


def compared(name: str) -> str:
    """Return the parts of a model that the tests compare with its oracle."""
    return next(parts for parts, names in COMPARED.items() if re.fullmatch(names, name))


def _oracle(row: HybridRow | ViTRow) -> str:
    """Describe the oracle of a model, such as a network of timm and its options."""
    if isinstance(row, ViTRow):
        is_published = row is MODELS[row.timm.removesuffix("_patch16_224")]
        return f"timm `{row.timm}`{'' if is_published else ', resized'}"
    stack = "-".join(row.stack)
    letters = [LETTERS[letter] for letter in stack if letter != "-"]
    if not row.timm:
        in_timm = all(letter.timm for letter in letters)
        if in_timm:
            return "timm's blocks, put together"
        return ", ".join(dict.fromkeys(x.oracle for x in letters if not x.timm))
    # The row of timm's published network, for its stack and widths.
    published = MODELS.get(row.timm.removesuffix("_224"), row)
    if isinstance(published, ViTRow):
        published = row
    asked = [f"timm `{row.timm}`"]
    if row.stack != published.stack:
        asked.append("".join(LETTERS[x].timm if x in LETTERS else x for x in stack))
    gates = {letter.timm_gate for letter in letters} - {"", "se"}
    asked += [f"`conv_attn_layer='{gate}'`" for gate in gates]
    if row.widths != published.widths:
        asked.append("resized")
    return ", ".join(asked)


def _per_stage(numbers: PerStage) -> str:
    """Format as `96, 192, 384+768`: parts of a stage are joined by a plus."""
    return ", ".join(
        str(n) if isinstance(n, int) else "+".join(map(str, n)) for n in numbers
    )


def listing(names: list[str]) -> str:
    """Format models as a plain table, one line per model, without tracing them."""
    rows = [("name", "stack", "widths", "depths"), *map(_plain_row, names)]
    return "\n".join(align(rows, "<"))


def _plain_row(name: str) -> tuple[str, str, str, str]:
    row = MODELS[name]
    if isinstance(row, ViTRow):
        return name, "patches", str(row.width), str(row.depth)
    return name, "-".join(row.stack), _per_stage(row.widths), _per_stage(row.depths)


def align(rows: Sequence[tuple[str, ...]], side: str) -> list[str]:
    """Align a table: the first column to the left, the others by `side`, `<` or `>`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{side if number else '<'}{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
