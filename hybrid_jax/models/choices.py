"""Checks of choices inside the blocks against model and image. Plain Python.

With circular padding, a relative bias on a torus and adaptive downsampling, the logits
of a stack of C, B, S, T or W do not change under any cyclic shift of the image.
"""

import math
from collections.abc import Mapping, Sequence

from hybrid_jax.models.block_config import BlockConfig
from hybrid_jax.models.registry import LETTERS, Block, HybridRow, ViTRow
from hybrid_jax.models.strides import HEAD_DIM, Size, format_size

# Values of the fields of `BlockConfig` that `create_model` takes.
CHOICES: dict[str, tuple[str, ...]] = {
    "attention": ("pre", "post"),
    "padding": ("symmetric", "same", "circular"),
    "relative_bias": ("table", "torus", "mlp", "none"),
    "downsample": ("strided", "blur", "aps"),
}
# Choices that treat a map as a torus, or that halve it by more than a plain stride.
FOR_EQUIVARIANCE = {
    "padding": ("circular",),
    "relative_bias": ("torus",),
    "downsample": ("blur", "aps"),
}


def check_choices(row: HybridRow | ViTRow, chosen: Mapping[str, str]) -> None:
    """Refuse choices that a model does not have.

    Raises:
      ValueError: names the choice and what is allowed.
    """
    for name, value in chosen.items():
        if isinstance(row, ViTRow):
            raise ValueError(
                f"{name}={value!r} is for hybrids only: a ViT cuts the image into "
                "patches and adds absolute positions"
            )
        if value not in CHOICES[name]:
            raise ValueError(
                f"{name}={value!r} is not one of {', '.join(CHOICES[name])}"
            )


def check_torus(
    config: BlockConfig, image_size: Size, strides: tuple[int, ...]
) -> None:
    """Refuse image sides from which a stride would halve an odd side of a torus.

    On an odd side, the sets of pixels that a stride could keep are not shifts of each
    other. So the product of all strides must divide the sides of the image.

    Raises:
      ValueError: names the choice, the image and a size that would do.
    """
    total = math.prod(strides)
    on_torus = {
        "padding": config.padding == "circular",
        "downsample": config.downsample == "aps",
    }
    for name, holds in on_torus.items():
        if holds and any(side % total for side in image_size):
            nearest = (max(1, round(side / total)) * total for side in image_size)
            raise ValueError(
                f"{name}={getattr(config, name)!r} needs image sides divisible by "
                f"{total}, the product of the strides {strides}, not "
                f"{format_size(image_size)} px: {format_size(nearest)} would do"
            )


def check_heads(plan: Sequence[Block], stem_width: int, config: BlockConfig) -> None:
    """Refuse attention over channels that are not a multiple of `HEAD_DIM`.

    Args:
      plan: the blocks.
      stem_width: channels of the map before the first block.
      config: of the blocks.

    Raises:
      ValueError: names the stage and its width.
    """
    before = stem_width
    for block in plan:
        what, width = f"stage {block.stage}", block.width
        attention = LETTERS[block.letter].attention
        # Windows follow a convolution, which has widened the map already.
        if attention == "map" and config.widened_by == "project" and before != width:
            what, width = f"the map before {block.letter} in {what}", before
        if attention and width % HEAD_DIM:
            raise ValueError(
                f"{what} is {width} channels wide, but {block.letter} needs a multiple "
                f"of {HEAD_DIM}: use C in that stage, or a wider model"
            )
        before = block.width


def check_windows(plan: Sequence[Block], config: BlockConfig) -> None:
    """Refuse choices for equivariance in a network that cuts its maps into windows.

    Raises:
      ValueError: names the choice and the block.
    """
    windowed = [b.letter for b in plan if LETTERS[b.letter].attention == "window"]
    for name, values in FOR_EQUIVARIANCE.items():
        if windowed and getattr(config, name) in values:
            raise ValueError(
                f"{name}={getattr(config, name)!r} does not work in a stack with "
                f"{windowed[0]}: its windows and grids lie at fixed positions"
            )
