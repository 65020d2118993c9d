"""Match the models of this project with the networks of timm."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from hybrid_jax.models.block_config import BlockConfig
from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.models.registry import LETTERS, MODELS, ViTRow
from hybrid_jax.models.strides import Size, format_size, map_sizes
from hybrid_jax.models.vit import ViT

Arrays = dict[str, np.ndarray]
Model = HybridNet | ViT

TIMM_STRIDES = (2, 2, 2, 2, 2)  # timm's networks have no others


def spec_from_timm(name: str, state: Arrays) -> dict[str, Any]:
    """Read the arguments of `create_model` off the shapes of timm's state dict.

    Returns:
      The arguments of `create_model`, and `channels`. Images are taken to be square,
      and of 224 px where no array depends on their size.

    Raises:
      KeyError: the state dict lacks an array that the spec depends on.
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
    """Return the image side that fits the last bias table; 0 if there is no table."""
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
    """Return name and keyword arguments with which `timm.create_model` builds a model.

    timm halves a map at every stage, so a network with other strides has the same
    weights but other logits in timm. `img_size` is then a size that fits its bias
    tables. `other_logits` lists these and further differences.

    Raises:
      ValueError: timm has no such network; names the part that it lacks.
    """
    if isinstance(model, ViT):
        height, width = model.map_sizes[0]
        return "vit_base_patch16_224", {
            "img_size": (height * model.patch_size, width * model.patch_size),
            "patch_size": model.patch_size,
            "embed_dim": model.width,
            "depth": model.depth,
            "num_heads": model.width // model.block_config.head_dim,
            "num_classes": model.num_classes,
        }
    letters = {block.letter: LETTERS[block.letter] for block in model.plan}
    unmatched = [letter for letter, row in letters.items() if not row.timm]
    gates = {row.timm_gate for row in letters.values() if row.timm_gate}
    windowed = any(row.attention == "window" for row in letters.values())
    lacking = None
    if unmatched:
        lacking = f"no block {unmatched[0]}"
    elif len(gates) > 1:
        lacking = "only one gate per network, so no B beside C or M"
    elif not all(isinstance(width, int) for width in model.widths):
        lacking = "no stage of two widths"
    elif model.block_config.attention != "pre":
        lacking = "a relative bias only before the softmax"
    elif windowed and model.block_config.transformer_norm == "batch":
        lacking = "no batch norms in MaxViT (M)"
    if lacking:
        raise ValueError(f"timm has {lacking}")
    arguments: dict[str, Any] = {
        "img_size": _timm_image_size(model),
        "block_type": tuple(
            tuple(letters[b.letter].timm for b in model.plan if b.stage == stage)
            for stage in range(1, 1 + len(model.stack))
        ),
        "embed_dim": model.widths,
        "depths": model.depths,
        "stem_width": model.stem_widths,
        "head_hidden_size": model.head_hidden,
        "num_classes": model.num_classes,
    }
    if gates and gates != {"se"}:  # timm's default
        (arguments["conv_attn_layer"],) = gates
    return _timm_name(model), arguments


def is_from_tensorflow(config: BlockConfig) -> bool:
    """Return whether timm's blocks follow MaxViT's release for TensorFlow.

    Their padding is a user's choice here, but their GELU is not.
    """
    return config.transformer_activation == "gelu_tanh"


def in_timm(config: BlockConfig) -> BlockConfig:
    """Return the config of the blocks in timm that would have the same weights.

    Padding and downsampling have no weights, and a table of offsets can repeat the
    table of a torus.
    """
    bias = config.relative_bias
    return replace(
        config,
        attention="pre",
        padding="same" if is_from_tensorflow(config) else "symmetric",
        relative_bias="table" if bias == "torus" else bias,
        downsample="strided",
    )


def other_logits(model: Model) -> list[str]:
    """List why timm computes other logits than a model with the same weights.

    Raises:
      ValueError: timm has no such network, as `timm_arguments` says.
    """
    if isinstance(model, ViT):
        return []
    config, reasons = model.block_config, []
    if model.strides != _timm_strides(model):
        twos = ",".join(map(str, _timm_strides(model)))
        reasons.append(
            f"timm halves at every stage, but this network has strides {model.strides} "
            f"(--config.model.strides={twos} trains one that does)"
        )
    odd = _odd_maps(model.image_size, model.strides)
    odd += _odd_maps(_timm_image_size(model), _timm_strides(model))
    if odd:
        reasons.append(
            f"timm halves a map of {format_size(odd[0])} in another way, or not at all"
        )
    padding = in_timm(config).padding
    if config.padding != padding:
        reasons.append(
            f"timm's padding is {padding}, but this network's is {config.padding}"
        )
    if config.downsample != "strided":
        reasons.append(
            f"timm halves only by strides, but this network by {config.downsample}"
        )
    return reasons


def _timm_strides(model: HybridNet) -> tuple[int, ...]:
    """Return the strides of timm's network with as many stages."""
    return (2,) * len(model.strides)


def _odd_maps(image_size: Size, strides: tuple[int, ...]) -> list[Size]:
    """List the maps with an odd side that a stage halves.

    timm's convolutions round up there, but its pooling rounds down or pads with zeros.
    Its stem has no pooling, so the sides of an image may be odd.
    """
    maps = map_sizes(image_size, strides)
    return [
        size
        for size, stride in zip(maps, strides[1:], strict=False)
        if stride == 2 and any(side % 2 for side in size)
    ]


def _timm_image_size(model: HybridNet) -> Size:
    """Return the image size at which timm's bias tables are as large as a model's.

    A size at which timm halves no odd map comes first: at others, most of its networks
    hold the weights, but cannot compute.

    Raises:
      ValueError: there is no such size.
    """
    attending = [
        block.stage for block in model.plan if LETTERS[block.letter].attention == "map"
    ]
    windowed = any(LETTERS[b.letter].attention == "window" for b in model.plan)
    ours = model.map_sizes

    def fits(size: Size) -> bool:
        maps = [(size[0] // 2, size[1] // 2)]  # timm rounds the first map down
        for _ in model.stack:
            height, width = maps[-1]
            maps.append(((height + 1) // 2, (width + 1) // 2))
        same = all(maps[stage] == ours[stage] for stage in attending)
        return same and (not windowed or (size[0] // 32, size[1] // 32) == ours[-1])

    scaled = [(2 ** (1 + n) * h, 2 ** (1 + n) * w) for n, (h, w) in enumerate(ours)]
    sizes = [size for size in (model.image_size, *reversed(scaled)) if fits(size)]
    if not sizes:
        raise ValueError(
            f"timm has no maps of {', '.join(map(format_size, ours))} in one network"
        )
    return min(sizes, key=lambda size: bool(_odd_maps(size, _timm_strides(model))))


def _timm_name(model: HybridNet) -> str:
    """Return the first of timm's models with blocks that have the same weights."""
    for row in MODELS.values():
        if row.timm and row.block_config == in_timm(model.block_config):
            return row.timm
    raise ValueError("timm has no network with this block config")
