"""Tables of blocks and models: one row each. Listing them imports no jax.

The name of a model is a family (which fixes the vertical layout, the *stack*, and the
config of its blocks) and a size (which fixes widths and depths). Sizes 0 to 7 are those
of CoAtNet (Dai et al. 2021, table 3) and Astroformer (Dagli 2023); femto, pico and nano
are this project's, for small images and for CPUs.

Both tables are open. A program may add rows before it builds a model or validates a
config:

    LETTERS["X"] = Letter(MyBlock, "what it is, for tables")
    MODELS["mine"] = HybridRow(("C", "C", "X", "T"), widths, depths, stem_widths, 256)
"""

import dataclasses
import fnmatch
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hybrid_jax.errors import closest
from hybrid_jax.models import block_config
from hybrid_jax.models.block_config import BlockConfig

# One number for a stage, or one for each letter of a stage that mixes them.
PerStage = tuple[int | tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Letter:
    """A block that a stack can name.

    Attributes:
      block: a Flax module, or its address `module:class`, with the fields `features`,
        `stride`, `drop_path`, `block_config` and `dtype` of `blocks.MBConv`. Its call
        takes a map `[B, H, W, C]` and `train`, and returns
        `[B, ceil(H/stride), ceil(W/stride), features]`.
      summary: description of the block, for tables.
      options: values of further fields of the block.
      attention: reach of the block's relative attention: the whole `map`, or a `window`
        of the size of the last map, which is passed as the field `window`. Empty
        without relative attention; with it, the width must be a multiple of `HEAD_DIM`.
      timm: the letter of timm's block that has the same weights; empty if none has.
      timm_gate: `conv_attn_layer` of timm's block; empty if it has no gate.
      oracle: implementation that the tests compare the block with, where timm has none.
    """

    block: str | Callable[..., Any]
    summary: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    attention: str = ""
    timm: str = ""
    timm_gate: str = ""
    oracle: str = "NumPy"

    def load_block(self) -> Callable[..., Any]:
        """Import the block; return it with its options bound."""
        block = self.block
        if isinstance(block, str):
            module, _, name = block.partition(":")
            block = getattr(importlib.import_module(module), name)
        return functools.partial(block, **self.options)


_MBCONV = "hybrid_jax.models.blocks:MBConv"
LETTERS: dict[str, Letter] = {
    "C": Letter(
        _MBCONV,
        "convolution: inverted residual with squeeze-excite (MBConv)",
        timm="C",
        timm_gate="se",
    ),
    "B": Letter(
        _MBCONV,
        "MBConv with block attention (CBAM) in place of squeeze-excite",
        options={"gate": "block_attention"},
        timm="C",
        timm_gate="cbam",
    ),
    "S": Letter(
        _MBCONV,
        "MBConv with local self-attention in place of the depthwise convolution",
        options={"spatial": "attention"},
    ),
    "W": Letter(
        "hybrid_jax.models.blocks:WideResidual",
        "two 3x3 convolutions, pre-activated (wide residual networks)",
        oracle="PyTorch",
    ),
    "T": Letter(
        "hybrid_jax.models.blocks:Transformer",
        "transformer with relative attention over the whole map",
        attention="map",
        timm="T",
    ),
    "M": Letter(
        "hybrid_jax.models.blocks:MaxViT",
        "MaxViT: convolution, attention in blocks, attention over a grid",
        attention="window",
        timm="M",
        timm_gate="se",
    ),
}


@dataclasses.dataclass(frozen=True)
class HybridRow:
    """A row of `MODELS`: the fields of `HybridNet` that define a model.

    Attributes:
      stack: the letters of each stage, keys of `LETTERS`.
      widths: channels of each stage.
      depths: blocks of each stage.
      stem_widths: channels of the stem's convolutions, two or one.
      head_hidden: width of the layer between pooling and classifier; 0 has none.
      block_config: choices inside the blocks.
      strides: of stem and stages, at any image size; empty chooses them by image size.
      timm: timm's model that has these blocks, up to stack and size; empty if none has.
    """

    stack: tuple[str, ...]
    widths: PerStage
    depths: PerStage
    stem_widths: tuple[int, ...]
    head_hidden: int
    block_config: BlockConfig = block_config.PAPER
    strides: tuple[int, ...] = ()
    timm: str = ""


@dataclasses.dataclass(frozen=True)
class ViTRow:
    """A row of `MODELS`: the fields of `ViT` that define a model.

    Attributes:
      width: channels.
      depth: number of blocks.
      block_config: choices inside the blocks.
      timm: timm's model that has these blocks, up to size.
    """

    width: int
    depth: int
    block_config: BlockConfig = block_config.VIT
    timm: str = ""


def passes_strides_over(row: "HybridRow | ViTRow", strides: tuple[int, ...]) -> bool:
    """Return whether a model ignores the strides of a config.

    A config's strides suit its images, for any hybrid. A ViT has no strides. A wide
    residual network keeps its published strides, unless the config gives as many.
    """
    if isinstance(row, ViTRow):
        return True
    return bool(row.strides) and len(strides) != 1 + len(row.depths)


class Block(NamedTuple):
    """A block of a network: its position, letter and width.

    Attributes:
      stage: number of the block's stage, from 1.
      number: number of the block in its stage, from 1.
      letter: key of `LETTERS`.
      width: channels.
      last: whether the block is the last of its stage.
    """

    stage: int
    number: int
    letter: str
    width: int
    last: bool


def parse_stack(stack: str) -> tuple[str, ...]:
    """Split `"C-C-C-T"` or `"CCCT"` into stages; stage 3 of `"C-C-CT-T"` mixes two."""
    return tuple(stack.split("-")) if "-" in stack else tuple(stack)


def attends(name: str, stack: str = "") -> bool:
    """Return whether a model has relative attention.

    Args:
      name: key of `MODELS`.
      stack: a stack in place of the model's own, as `parse_stack` reads it.
    """
    letters = parse_stack(stack) or getattr(MODELS[name], "stack", ())
    return any(LETTERS[letter].attention for letter in "".join(letters))


def block_plan(
    stack: tuple[str, ...], widths: PerStage, depths: PerStage
) -> list[Block]:
    """List every block of a network, in order.

    A stage may have several parts, each with a letter, a width and a depth. A single
    letter or width holds for all parts. A single depth is divided evenly, and the first
    parts take the remainder.

    Raises:
      ValueError: the letters, widths and depths of a stage do not match.
    """
    plan = []
    stages = zip(stack, widths, depths, strict=True)
    for stage, (letters, width, depth) in enumerate(stages, start=1):
        parts = max(len(x) for x in (letters, width, depth) if not isinstance(x, int))
        letters = letters * parts if len(letters) == 1 else letters
        if isinstance(width, int):
            width = (width,) * parts
        if isinstance(depth, int):
            depth = tuple((depth + parts - 1 - part) // parts for part in range(parts))
        if not letters or not {*letters} <= LETTERS.keys():
            raise ValueError(
                f"stage {stage}: {letters!r} is not allowed: give letters of "
                f"{', '.join(LETTERS)}"
            )
        if not len(letters) == len(width) == len(depth) or 0 in depth:
            raise ValueError(
                f"stage {stage}: letters {letters!r} do not match widths {width} and "
                f"depths {depth}: give a width and a depth of 1 or more for each letter"
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


#         widths                        depths             stem  head
SIZES: dict[str, tuple[PerStage, PerStage, int, int]] = {
    "femto": ((8, 16, 32, 64), (1, 1, 1, 1), 8, 64),
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
SMALL_TO_5 = ("femto", "pico", "nano", "0", "1", "2", "3", "4", "5")

# The published vertical layouts, and those that the Astroformer paper compares.
FAMILIES = (
    ("astroformer_{}", "C-C-C-T", SMALL_TO_5),
    ("astroformer_{}_cccc", "C-C-C-C", SMALL_TO_5),
    ("astroformer_{}_cctt", "C-C-T-T", SMALL_TO_5),
    ("astroformer_{}_cttt", "C-T-T-T", SMALL_TO_5[1:]),  # femto is too narrow
    ("coatnet_{}", "C-C-T-T", ("0", "1", "2", "3", "4", "5")),
    ("coatnet_{}", "C-C-CT-T", ("6", "7")),
    ("cbam_{}", "B-B-B-B", SMALL_TO_5),
    ("sasa_{}", "S-S-S-S", SMALL_TO_5),
)

# timm's own CoAtNets that it has weights for.
#            widths                depths         stem
_RW_NANO = ((64, 128, 256, 512), (3, 4, 6, 3), (32, 64))
_RW_0 = ((96, 192, 384, 768), (2, 3, 7, 2), (32, 64))
_RW_1 = ((96, 192, 384, 768), (2, 6, 14, 2), (32, 64))
_RW_2 = ((128, 256, 512, 1024), (2, 6, 14, 2), (64, 128))
_RW_3 = ((192, 384, 768, 1536), (2, 6, 14, 2), (96, 192))
RW = {
    "coatnet_nano_rw": (_RW_NANO, block_config.RW_NANO),
    "coatnet_0_rw": (_RW_0, block_config.RW_0),
    "coatnet_1_rw": (_RW_1, block_config.RW_1),
    "coatnet_2_rw": (_RW_2, block_config.RW_2),
    "coatnet_3_rw": (_RW_3, block_config.RW_3),
    "coatnet_bn_0_rw": (_RW_0, block_config.RW_BN),
    "coatnet_rmlp_nano_rw": (_RW_NANO, block_config.RW_MLP_NANO),
    "coatnet_rmlp_1_rw": (_RW_1, block_config.RW_MLP_1),
    "coatnet_rmlp_1_rw2": (_RW_1, block_config.RW_MLP_1_SECOND),
    "coatnet_rmlp_2_rw": (_RW_2, block_config.RW_MLP_2),
}

#           widths               depths         stem      head
MAXVIT = {
    "tiny": ((64, 128, 256, 512), (2, 2, 5, 2), (64, 64), 512),
    "small": ((96, 192, 384, 768), (2, 2, 5, 2), (64, 64), 768),
    "base": ((96, 192, 384, 768), (2, 6, 14, 2), (64, 64), 768),
}

# Depth and width of published wide residual networks, and of small ones.
WIDE_RESNETS = (
    (16, 1),
    (16, 2),
    (16, 4),
    (16, 8),
    (28, 2),
    (28, 10),
    (40, 4),
)

#        width depth
VIT = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12)}
# This project's own, with about as many parameters as Astroformer in these sizes.
SMALL_VIT = {"femto": (64, 1), "pico": (64, 6), "nano": (128, 11)}


def _published_row(stack: str, size: str) -> HybridRow:
    """Return the row of a published layout in a published size."""
    widths, depths, stem, head = SIZES[size]
    # timm's sizes end with 5, but it builds any size that has one width per stage.
    in_timm = all(LETTERS[letter].timm for letter in stack if letter != "-")
    in_timm = in_timm and size not in ("6", "7")
    timm = f"coatnet_{size if size in '012345' else 0}_224" if in_timm else ""
    return HybridRow(parse_stack(stack), widths, depths, (stem, stem), head, timm=timm)


def _wide_resnet_row(stack: str, depth: int, width: int) -> HybridRow:
    """Return the row of WRN-depth-width, or of a hybrid with its widths and depths.

    A fourth stage is one block behind them, as wide as the third. With it, strides are
    chosen by image size, as in other hybrids of four stages.
    """
    fourth, is_hybrid = len(stack) - 3, "T" in stack
    return HybridRow(
        parse_stack(stack),
        widths=(16 * width, 32 * width, 64 * width) + (64 * width,) * fourth,
        # Two convolutions per block, and 4 outside.
        depths=((depth - 4) // 6,) * 3 + (1,) * fourth,
        stem_widths=(16,),
        head_hidden=0,
        block_config=block_config.WIDE_HYBRID
        if is_hybrid
        else block_config.WIDE_RESNET,
        strides=() if fourth else (1, 1, 2, 2),
    )


MODELS: dict[str, HybridRow | ViTRow] = (
    {
        name.format(size): _published_row(stack, size)
        for name, stack, sizes in FAMILIES
        for size in sizes
    }
    | {
        name: HybridRow(parse_stack("CCTT"), *size, 0, config, timm=f"{name}_224")
        for name, (size, config) in RW.items()
    }
    | {
        f"maxvit_{size}": HybridRow(
            parse_stack("MMMM"), *row, block_config.MAXVIT, timm=f"maxvit_{size}_tf_224"
        )
        for size, row in MAXVIT.items()
    }
    | {
        f"wrn_{depth}_{width}": _wide_resnet_row("WWW", depth, width)
        for depth, width in WIDE_RESNETS
    }
    | {
        f"wrn_{depth}_{width}_{stack.lower()}": _wide_resnet_row(stack, depth, width)
        for stack in ("WWT", "WWWT")
        for depth, width in WIDE_RESNETS
        if width % 2 == 0
    }
    | {
        f"vit_{size}": ViTRow(*row, timm="vit_tiny_patch16_224")
        for size, row in SMALL_VIT.items()
    }
    | {
        f"vit_{size}": ViTRow(*row, timm=f"vit_{size}_patch16_224")
        for size, row in VIT.items()
    }
)


def list_models(pattern: str = "*") -> list[str]:
    """List the names of models that match a shell pattern, such as `coatnet_*`."""
    return fnmatch.filter(MODELS, pattern)


def family_of(name: str) -> str:
    """Return the name of a model without its size: `wrn`, or `astroformer_cctt`."""
    sizes = {*SIZES, *VIT, *MAXVIT}
    words = [w for w in name.split("_") if w not in sizes and not w.isdigit()]
    return "_".join(words) or name


def family_patterns() -> str:
    """List the families as `coatnet_*, ...`, for messages of one line."""
    families = dict.fromkeys(name.split("_")[0] for name in MODELS)
    patterns = ", ".join(f"{family}_*" for family in families)
    return f"{patterns} (`hybrid-jax models` lists them)"


def unknown_model(name: str) -> str:
    """Return the message that no model has a name, with one that is alike."""
    found = closest(name, MODELS)
    return f"no model is called {name!r}{found}; there are {family_patterns()}"
