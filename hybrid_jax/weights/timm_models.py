"""Which of timm's networks a model is, and which of ours a state dict of timm's."""

import math
from typing import Any

import numpy as np

from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.models.registry import MODELS, ViTRow
from hybrid_jax.models.strides import Size
from hybrid_jax.models.vit import ViT

Arrays = dict[str, np.ndarray]
Model = HybridNet | ViT

TIMM_STRIDES = (2, 2, 2, 2, 2)  # its networks have no others


def spec_from_timm(name: str, state: Arrays) -> dict[str, Any]:
    """What a state dict of timm's is of, read off its shapes.

    Returns:
      The arguments of `create_model`, and `channels`. Images are taken to be square,
      and of 224 px where no array depends on their size.

    Raises:
      KeyError: the state dict has no such array.
    """
    if isinstance(MODELS[name], ViTRow):
        positions, kernel = state["pos_embed"], state["patch_embed.proj.weight"]
        patch = kernel.shape[-1]
        side = patch * math.isqrt(positions.shape[1] - 1)
        spec = {"patch_size": patch, "num_classes": len(state["head.bias"])}
    else:
        kernel, side = state["stem.conv1.weight"], _image_side(state) or 224
        spec = {"strides": TIMM_STRIDES, "num_classes": len(state["head.fc.bias"])}
    return {
        "name": name,
        **spec,
        "image_size": (side, side),
        "channels": kernel.shape[1],
    }


def _image_side(state: Arrays) -> int:
    """Pixels that the last bias table was made for; 0 if there is no table."""
    side = 0
    for key, table in state.items():
        if not key.endswith("bias_table"):
            continue
        offsets = table.shape[1] if table.ndim == 3 else math.isqrt(len(table))
        # MaxViT's windows are as large as the last map, a transformer's map its own.
        halvings = 5 if ".attn_" in key else 2 + int(key.split(".")[1])
        side = (offsets + 1) // 2 * 2**halvings
    return side


def timm_arguments(model: Model) -> tuple[str, dict[str, Any]]:
    """Name and keyword arguments with which `timm.create_model` builds a model.

    timm halves a map at every stage, so a network with other strides has its weights
    but not its logits there: `img_size` is then another size, which its bias tables
    fit.

    Raises:
      ValueError: timm has no such network; says what of it.
    """
    if isinstance(model, ViT):
        height, width = model.map_sizes[0]
        return "vit_base_patch16_224", {
            "img_size": (height * model.patch_size, width * model.patch_size),
            "patch_size": model.patch_size,
            "embed_dim": model.width,
            "depth": model.depth,
            "num_heads": model.width // model.recipe.head_dim,
            "num_classes": model.num_classes,
        }
    letters = {block.letter for block in model.plan}
    lacking = None
    if "S" in letters:
        lacking = "no local self-attention (S)"
    elif {"B", "C"} <= letters or {"B", "M"} <= letters:
        lacking = "one gate for all of a network (B beside C or M)"
    elif not all(isinstance(width, int) for width in model.widths):
        lacking = "no two widths in a stage"
    elif model.recipe.attention != "pre":
        lacking = "relative bias before the softmax alone"
    elif "M" in letters and model.recipe.transformer_norm == "batch":
        lacking = "no batch norms in MaxViT (M)"
    if lacking:
        raise ValueError(f"timm has {lacking}")
    arguments = {
        "img_size": _timm_image_size(model),
        "block_type": tuple(
            tuple(b.letter.replace("B", "C") for b in model.plan if b.stage == stage)
            for stage in range(1, 1 + len(model.stack))
        ),
        "embed_dim": model.widths,
        "depths": model.depths,
        "stem_width": model.stem_widths,
        "head_hidden_size": model.head_hidden or None,
        "num_classes": model.num_classes,
    }
    if "B" in letters:
        arguments["conv_attn_layer"] = "cbam"
    return _timm_name(model), arguments


def _timm_image_size(model: HybridNet) -> Size:
    """Pixels at which timm's bias tables are as large as a model's.

    Raises:
      ValueError: there is no such size.
    """
    attending = {block.stage for block in model.plan if block.letter == "T"}
    windows = any(block.letter == "M" for block in model.plan)
    ours = model.map_sizes

    def fits(size):
        maps = [tuple(side // 2 for side in size)]  # so timm rounds
        for _ in model.stack:
            maps.append(tuple((side + 1) // 2 for side in maps[-1]))
        same = all(maps[stage] == ours[stage] for stage in attending)
        return same and (not windows or tuple(s // 32 for s in size) == ours[-1])

    scaled = [tuple(2 ** (1 + n) * side for side in ours[n]) for n in range(len(ours))]
    for size in [model.image_size, *reversed(scaled)]:
        if fits(size):
            return size
    raise ValueError(
        f"timm has no maps of {', '.join(f'{h}x{w}' for h, w in ours)} in one network"
    )


def _timm_name(model: HybridNet) -> str:
    """The first of timm's models whose blocks are made like this one's."""
    for row in MODELS.values():
        if row.recipe == model.recipe and row.timm:
            return row.timm
    raise ValueError("timm has no blocks of this recipe")
