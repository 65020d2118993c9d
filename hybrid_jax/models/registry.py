"""Every model of this project, a row each. Plain Python: listing costs no jax.

A name is a family (which fixes the vertical layout, the *stack*, and the recipe of its
blocks) and a size (which fixes widths and depths). Sizes 0 to 7 are those of CoAtNet
(Dai et al. 2021, table 3) and Astroformer (Dagli 2023); pico and nano are this
project's own, for small images and for CPUs.
"""

import dataclasses
import fnmatch
from typing import NamedTuple

from hybrid_jax.models import block_config
from hybrid_jax.models.block_config import Recipe
from hybrid_jax.models.strides import HEAD_DIM

# One number for a stage, or one for each letter of a stage that mixes them.
PerStage = tuple[int | tuple[int, ...], ...]

LETTERS = {
    "C": "convolution: inverted residual with squeeze-excite (MBConv)",
    "B": "the same with block attention (CBAM) in place of squeeze-excite",
    "S": "the same with local self-attention in place of the depthwise convolution",
    "T": "transformer with relative attention over the whole map",
    "M": "MaxViT: convolution, attention in blocks, attention over a grid",
}


@dataclasses.dataclass(frozen=True)
class HybridRow:
    """What `HybridNet` needs to know about a model.

    Attributes:
      stack: the letters of each stage, keys of `LETTERS`.
      widths: channels of each stage.
      depths: blocks of each stage.
      stem_widths: channels of the stem's two convolutions.
      head_hidden: width of the layer between pooling and classifier; 0 has none.
      recipe: choices inside the blocks.
      timm: the model of timm that this one is, up to stack and size; empty if none is.
    """

    stack: tuple[str, ...]
    widths: PerStage
    depths: PerStage
    stem_widths: tuple[int, int]
    head_hidden: int
    recipe: Recipe = block_config.PAPER
    timm: str = ""


@dataclasses.dataclass(frozen=True)
class ViTRow:
    """What `ViT` needs to know about a model: width, depth, and timm's name for it."""

    width: int
    depth: int
    recipe: Recipe = block_config.VIT
    timm: str = ""


class Block(NamedTuple):
    """A block's place (stage and number in it, from 1), letter and width."""

    stage: int
    number: int
    letter: str
    width: int
    last: bool  # of its stage


def parse_stack(stack: str) -> tuple[str, ...]:
    """`"C-C-C-T"` or `"CCCT"` as a tuple of stages; `"C-C-CT-T"` has a mixed one."""
    return tuple(stack.split("-")) if "-" in stack else tuple(stack)


def block_plan(
    stack: tuple[str, ...], widths: PerStage, depths: PerStage
) -> list[Block]:
    """Every block of a network, in order.

    A stage of several letters has a width and a depth for each, or shares one of them
    evenly, the first letters taking what is left over. A single letter serves all
    parts of a stage.

    Raises:
      ValueError: a stage whose letters, widths and depths do not go together.
    """
    plan = []
    stages = zip(stack, widths, depths, strict=True)
    for stage, (letters, width, depth) in enumerate(stages, start=1):
        parts = max(len(x) for x in (letters, width, depth) if not isinstance(x, int))
        letters = letters * parts if len(letters) == 1 else letters
        width = (width,) * parts if isinstance(width, int) else width
        depth = _shares(depth, parts) if isinstance(depth, int) else depth
        if not letters or not {*letters} <= LETTERS.keys():
            raise ValueError(
                f"stage {stage}: {letters!r} are not letters of {', '.join(LETTERS)}"
            )
        if not len(letters) == len(width) == len(depth) or 0 in depth:
            raise ValueError(
                f"stage {stage}: letters {letters!r} do not go with widths {width} and "
                f"depths {depth}"
            )
        blocks = [
            (letter, width)
            for letter, width, count in zip(letters, width, depth, strict=True)
            for _ in range(count)
        ]
        plan += [
            Block(stage, number, *block, last=number == len(blocks))
            for number, block in enumerate(blocks, start=1)
        ]
    return plan


def check_heads(plan: list[Block]) -> None:
    """Refuses attention in stages that are no whole number of heads wide.

    Raises:
      ValueError: names the stage and its width.
    """
    for block in plan:
        if block.letter in "TM" and block.width % HEAD_DIM:
            raise ValueError(
                f"stage {block.stage} is {block.width} channels wide, and a "
                f"{block.letter} takes a multiple of {HEAD_DIM}: begin with C there, "
                "or take a wider model"
            )


def _shares(depth: int, parts: int) -> tuple[int, ...]:
    return tuple((depth + parts - 1 - part) // parts for part in range(parts))


#         widths                        depths             stem  head
SIZES = {
    "pico": ((16, 32, 64, 128), (1, 1, 2, 1), 16, 128),
    "nano": ((32, 64, 128, 256), (1, 2, 3, 2), 32, 256),
    "0": ((96, 192, 384, 768), (2, 3, 5, 2), 64, 768),
    "1": ((96, 192, 384, 768), (2, 6, 14, 2), 64, 768),
    "2": ((128, 256, 512, 1024), (2, 6, 14, 2), 128, 1024),
    "3": ((192, 384, 768, 1536), (2, 6, 14, 2), 192, 1536),
    "4": ((192, 384, 768, 1536), (2, 12, 28, 2), 192, 1536),
    "5": ((256, 512, 1280, 2048), (2, 12, 28, 2), 192, 2048),
    "6": ((192, 384, (768, 1536), 2048), (2, 4, (8, 42), 2), 192, 2048),
    "7": ((256, 512, (1024, 2048), 3072), (2, 4, (8, 42), 2), 192, 3072),
}
SMALL_TO_5 = ("pico", "nano", "0", "1", "2", "3", "4", "5")

# The published vertical layouts, and those that the Astroformer paper compares.
FAMILIES = (
    ("astroformer_{}", "C-C-C-T", SMALL_TO_5),
    ("astroformer_{}_cccc", "C-C-C-C", SMALL_TO_5),
    ("astroformer_{}_cctt", "C-C-T-T", SMALL_TO_5),
    ("astroformer_{}_cttt", "C-T-T-T", SMALL_TO_5),
    ("coatnet_{}", "C-C-T-T", ("0", "1", "2", "3", "4", "5")),
    ("coatnet_{}", "C-C-CT-T", ("6", "7")),
    ("cbam_{}", "B-B-B-B", SMALL_TO_5),
    ("sasa_{}", "S-S-S-S", SMALL_TO_5),
)

# timm's own CoAtNets, those it has weights for.
#                          widths                depths         stem      recipe
RW = {
    "coatnet_nano_rw": (
        (64, 128, 256, 512),
        (3, 4, 6, 3),
        (32, 64),
        block_config.RW_NANO,
    ),
    "coatnet_0_rw": ((96, 192, 384, 768), (2, 3, 7, 2), (32, 64), block_config.RW_0),
    "coatnet_1_rw": ((96, 192, 384, 768), (2, 6, 14, 2), (32, 64), block_config.RW_1),
    "coatnet_2_rw": (
        (128, 256, 512, 1024),
        (2, 6, 14, 2),
        (64, 128),
        block_config.RW_2,
    ),
    "coatnet_3_rw": (
        (192, 384, 768, 1536),
        (2, 6, 14, 2),
        (96, 192),
        block_config.RW_3,
    ),
    "coatnet_bn_0_rw": (
        (96, 192, 384, 768),
        (2, 3, 7, 2),
        (32, 64),
        block_config.RW_BN,
    ),
    "coatnet_rmlp_nano_rw": (
        *((64, 128, 256, 512), (3, 4, 6, 3), (32, 64)),
        block_config.RW_MLP_NANO,
    ),
    "coatnet_rmlp_1_rw": (
        *((96, 192, 384, 768), (2, 6, 14, 2), (32, 64)),
        block_config.RW_MLP_1,
    ),
    "coatnet_rmlp_1_rw2": (
        *((96, 192, 384, 768), (2, 6, 14, 2), (32, 64)),
        block_config.RW_MLP_1_SECOND,
    ),
    "coatnet_rmlp_2_rw": (
        *((128, 256, 512, 1024), (2, 6, 14, 2), (64, 128)),
        block_config.RW_MLP_2,
    ),
}

#           widths               depths         stem      head
MAXVIT = {
    "tiny": ((64, 128, 256, 512), (2, 2, 5, 2), (64, 64), 512),
    "small": ((96, 192, 384, 768), (2, 2, 5, 2), (64, 64), 768),
    "base": ((96, 192, 384, 768), (2, 6, 14, 2), (64, 64), 768),
}

#        width depth
VIT = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12)}


def _of_paper(stack: str, size: str) -> HybridRow:
    widths, depths, stem, head = SIZES[size]
    stack = parse_stack(stack)
    # timm's own sizes end with 5, but any size can be asked of it.
    known = {*"".join(stack)} <= {*"CBT"} and size not in ("6", "7")
    timm = f"coatnet_{size if size in '012345' else 0}_224" if known else ""
    return HybridRow(stack, widths, depths, (stem, stem), head, timm=timm)


MODELS: dict[str, HybridRow | ViTRow] = (
    {
        name.format(size): _of_paper(stack, size)
        for name, stack, sizes in FAMILIES
        for size in sizes
    }
    | {
        name: HybridRow(parse_stack("C-C-T-T"), *row[:3], 0, row[3], f"{name}_224")
        for name, row in RW.items()
    }
    | {
        f"maxvit_{size}": HybridRow(
            parse_stack("M-M-M-M"), *row, block_config.MAXVIT, f"maxvit_{size}_tf_224"
        )
        for size, row in MAXVIT.items()
    }
    | {
        f"vit_{size}": ViTRow(*row, timm=f"vit_{size}_patch16_224")
        for size, row in VIT.items()
    }
)


def list_models(pattern: str = "*") -> list[str]:
    """The names `create_model` takes, those that match a shell pattern."""
    return fnmatch.filter(MODELS, pattern)


def shown_models() -> str:
    """The families in a few words, for messages that need not be a page long."""
    families = dict.fromkeys(name.split("_")[0] for name in MODELS)
    shown = ", ".join(f"{family}_*" for family in families)
    return f"{shown} (`hybrid-jax models` lists them)"
