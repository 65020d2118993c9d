"""Weights under the names and layouts of timm's state dicts, and back again.

The released Astroformer is timm's `MaxxVit`, so its state dicts are covered too. Here
kernels are `[..., in, out]`, a bias table is `[2H - 1, 2W - 1, heads]` over the offsets
`i - j`, and `qkv` is packed head by head; timm's layouts differ by layer and model.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hybrid_jax.models.registry import LETTERS
from hybrid_jax.models.strides import Size
from hybrid_jax.models.vit import ViT
from hybrid_jax.weights.bias_tables import unfold_torus
from hybrid_jax.weights.timm_models import (
    Arrays,
    Model,
    is_from_tensorflow,
    timm_arguments,
)

MBCONV = {
    "shortcut/project": "shortcut.expand",
    "pre_norm": "pre_norm",
    "expand": "conv1_1x1",
    "expand_norm": "norm1",
    "depthwise": "conv2_kxk",
    "spatial_norm": "norm2",
    "squeeze_excite/reduce": "se.fc1",
    "squeeze_excite/expand": "se.fc2",
    "block_attention/reduce": "se.channel.fc1",
    "block_attention/expand": "se.channel.fc2",
    "block_attention/spatial": "se.spatial.conv.conv",
    "block_attention/spatial_norm": "se.spatial.conv.bn",
    "project": "conv3_1x1",
}
TRANSFORMER = {
    "shortcut/project": "shortcut.expand",
    "attention_norm": "norm1",
    "attention/qkv": "attn.qkv",
    "attention": "attn.rel_pos",
    "attention/position/expand": "attn.rel_pos.mlp.fc1",
    "attention/position/project": "attn.rel_pos.mlp.fc2",
    "attention/project": "attn.proj",
    "attention_scale": "ls1.gamma",
    "mlp_norm": "norm2",
    "mlp/expand": "mlp.fc1",
    "mlp/project": "mlp.fc2",
    "mlp_scale": "ls2.gamma",
}
MAXVIT = (
    {f"conv/{ours}": f"conv.{theirs}" for ours, theirs in MBCONV.items()}
    | {f"block/{ours}": f"attn_block.{theirs}" for ours, theirs in TRANSFORMER.items()}
    | {f"grid/{ours}": f"attn_grid.{theirs}" for ours, theirs in TRANSFORMER.items()}
)
# The first block of a stage pools after its first norm, which renames that norm.
FIRST_TRANSFORMER = TRANSFORMER | {"attention_norm": "norm1.norm"}
BLOCKS = {"C": MBCONV, "T": TRANSFORMER, "M": MAXVIT}  # by timm's letter

STEM = {
    "stem/conv1": "stem.conv1",
    "stem/norm": "stem.norm1",
    "stem/conv2": "stem.conv2",
}
HEAD = {
    "head/norm": "head.norm",
    "head/hidden": "head.pre_logits.fc",
    "head/classifier": "head.fc",
}
PLAIN_HEAD = {"head/norm": "norm", "head/classifier": "head.fc"}
VIT = {
    "patch_embedding": "patch_embed.proj",
    "class_token": "cls_token",
    "position_embedding": "pos_embed",
    "head/norm": "norm",
    "head/classifier": "head",
}
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "bias_table": "relative_position_bias_table",
}
# Arrays that timm stores, or stored in the past, beside its weights.
DERIVED = (
    "num_batches_tracked",
    "relative_position_index",
    "rel_coords_log",
    "height_lookup",
    "width_lookup",
)


class Layout(NamedTuple):
    """Functions from this project's layout of an array to timm's, and from timm's.

    `from_timm` also takes the expected shape.
    """

    to_timm: Callable[[np.ndarray], np.ndarray]
    from_timm: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


class Leaf(NamedTuple):
    """timm's name of an array, and its layout there."""

    key: str
    layout: Layout


AS_IS = Layout(lambda x: x, lambda x, _: x)
LINEAR = Layout(lambda x: x.T, lambda x, _: x.T)
CONVOLUTION = Layout(
    lambda x: x.transpose(3, 2, 0, 1), lambda x, _: x.transpose(2, 3, 1, 0)
)
# 1x1 convolutions. timm changed some to linear layers, so linear layers are read too.
POINTWISE = Layout(
    lambda x: x.T[:, :, None, None], lambda x, _: x.reshape(x.shape[:2]).T
)
TABLE = Layout(
    lambda x: x.reshape(-1, x.shape[-1]),
    lambda x, shape: x.reshape(*shape[:2], x.shape[-1]),
)
# TensorFlow's offsets are j - i.
TENSORFLOW_TABLE = Layout(
    lambda x: x[::-1, ::-1].transpose(2, 0, 1),
    lambda x, _: x.transpose(1, 2, 0)[::-1, ::-1],
)
TOKENS = Layout(
    lambda x: x.reshape(1, -1, x.shape[-1]),
    lambda x, shape: x.reshape((-1, x.shape[-1])[-len(shape) :]),
)


def _patch_layout(side: int) -> Layout:
    """Return the layout of a patch embedding: a convolution in timm, a product here."""
    return Layout(
        lambda x: x.reshape(side, side, -1, x.shape[-1]).transpose(3, 2, 0, 1),
        lambda x, _: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
    )


def _unfolded_layout(layout: Layout) -> Layout:
    """Return the layout of a torus' table, which is a repeating table of a map in timm.

    `from_timm` returns the table of a map.
    """
    return Layout(
        lambda x: layout.to_timm(unfold_torus(x)),
        lambda x, shape: layout.from_timm(x, tuple(2 * n - 1 for n in shape[:2])),
    )


def _packed_layout(layout: Layout, head_dim: int) -> Layout:
    """Return the layout of a `qkv` that timm packs as q, k, v, each over all heads.

    This project packs `qkv` head by head.
    """

    def swap(x: np.ndarray, *shape: int) -> np.ndarray:
        heads = x.reshape(*x.shape[:-1], *shape, head_dim)
        return heads.swapaxes(-3, -2).reshape(x.shape)

    return Layout(
        lambda x: layout.to_timm(swap(x, -1, 3)),
        lambda x, shape: swap(layout.from_timm(x, shape), 3, -1),
    )


def timm_leaf(model: Model, path: str, ndim: int) -> Leaf:
    """Return timm's name and layout of an array.

    Args:
      model: the network.
      path: such as `params/stage1_block1/expand/kernel`.
      ndim: dimensions of the array.

    Raises:
      ValueError: timm has no such layer.
    """
    collection, inside = path.split("/", 1)
    module, _, leaf = inside.rpartition("/")
    names = _module_names(model, module or inside)
    if inside in names:  # an array that belongs to no layer
        key = names[inside]
    elif module in names and leaf in LEAVES:
        key = f"{names[module]}.{LEAVES[leaf]}"
    else:
        raise ValueError(f"timm has no array for {collection}/{inside}")
    return Leaf(key, _layout(model, inside, ndim))


def _module_names(model: Model, module: str) -> dict[str, str]:
    """Map names of modules to timm's, in the part of a model that holds `module`."""
    first = module.split("/")[0]
    if isinstance(model, ViT):
        if not first.startswith("block"):
            return VIT
        theirs = f"blocks.{int(first.removeprefix('block')) - 1}"
        return {f"{first}/{k}": f"{theirs}.{v}" for k, v in TRANSFORMER.items()}
    if first == "stem":
        return STEM
    if first == "head":
        return HEAD if model.head_hidden else PLAIN_HEAD
    stage, number = (int("".join(filter(str.isdigit, x))) for x in first.split("_"))
    (letter,) = (b.letter for b in model.plan if (b.stage, b.number) == (stage, number))
    names = BLOCKS.get(LETTERS[letter].timm, {})
    if names is TRANSFORMER and number == 1:
        names = FIRST_TRANSFORMER
    if model.block_config.gate_before_norm:
        names = {k: v.replace("se.", "se_early.", 1) for k, v in names.items()}
    theirs = f"stages.{stage - 1}.blocks.{number - 1}"
    return {f"{first}/{k}": f"{theirs}.{v}" for k, v in names.items()}


def _layout(model: Model, inside: str, ndim: int) -> Layout:
    """Return the layout of an array in timm, by its path."""
    *modules, leaf = inside.split("/")
    if leaf in ("class_token", "position_embedding"):
        return TOKENS
    # MaxViT's release for TensorFlow has other conventions, and MaxViT and ViT have
    # linear layers where CoAtNet has 1x1 convolutions.
    tensorflow = is_from_tensorflow(model.block_config)
    linear = isinstance(model, ViT) or {"block", "grid"} & {*modules}
    if leaf == "bias_table":
        layout = TENSORFLOW_TABLE if tensorflow else TABLE
        on_torus = model.block_config.relative_bias == "torus"
        return _unfolded_layout(layout) if on_torus else layout
    if leaf == "kernel":
        if ndim == 4:
            layout = CONVOLUTION
        elif modules == ["patch_embedding"]:
            layout = _patch_layout(model.patch_size)
        elif linear or "head" in modules or "position" in modules:
            layout = LINEAR
        else:
            layout = POINTWISE
    else:
        layout = AS_IS
    if "qkv" in modules and linear and (tensorflow or isinstance(model, ViT)):
        layout = _packed_layout(layout, model.block_config.head_dim)
    return layout


def to_timm(model: Model, arrays: Arrays) -> Arrays:
    """Convert variables to a state dict of timm.

    Args:
      model: the network.
      arrays: its variables, `{"params/.../kernel": array}`.

    Raises:
      ValueError: timm lacks a layer or a form of attention of the network.
    """
    timm_arguments(model)
    state = {}
    for path, array in arrays.items():
        key, layout = timm_leaf(model, path, array.ndim)
        state[key] = layout.to_timm(np.asarray(array))
    return state


def from_timm(
    model: Model,
    state: Arrays,
    shapes: dict[str, tuple[int, ...]],
    maps: Sequence[Size] | None = None,
) -> tuple[Arrays, dict[str, Leaf]]:
    """Convert a state dict of timm to arrays of a model, whether or not they fit.

    Args:
      model: the network.
      state: the state dict.
      shapes: shapes of the model's variables, by path.
      maps: sizes of the maps after each stride of the network that the state dict is
        of. None takes maps for square, or else for as large as the model's.

    Returns:
      The arrays by path, or by timm's name if the model does not have them; and timm's
      name and layout of every path, for messages.
    """
    leaves = {path: timm_leaf(model, path, len(s)) for path, s in shapes.items()}
    rest = {k: v for k, v in state.items() if not k.endswith(DERIVED)}
    arrays = {}
    for path, (key, layout) in leaves.items():
        if key not in rest:
            continue
        array = rest.pop(key)
        try:
            shape = shapes[path]
            if path.endswith("/bias_table"):
                shape = _table_shape(model, path, array, maps)
            arrays[path] = layout.from_timm(array, shape)
        except (ValueError, IndexError):
            arrays[path] = array  # of wrong dimensions, to be reported unchanged
    return arrays | rest, leaves


def _table_shape(
    model: Model, path: str, table: np.ndarray, maps: Sequence[Size] | None
) -> tuple[int, ...]:
    """Return the shape of a bias table here, in the network that it comes from.

    Args:
      model: the network that it goes to.
      path: of the table.
      table: as timm has it.
      maps: see `from_timm`.
    """
    block = path.split("/")[1]
    (stage,) = (
        b.stage if LETTERS[b.letter].attention == "map" else -1  # of windows
        for b in model.plan
        if block == f"stage{b.stage}_block{b.number}"
    )
    height, width = model.map_sizes[stage] if maps is None else maps[stage]
    if maps is None and (side := _square_side(table)):
        height = width = (side + 1) // 2
    if model.block_config.relative_bias == "torus":
        return height, width, table.shape[-1]
    return 2 * height - 1, 2 * width - 1, table.shape[-1]


def _square_side(table: np.ndarray) -> int:
    """Return how many offsets a square table of timm has on a side; 0 for others."""
    side = math.isqrt(len(table))
    return side if side * side == len(table) and side % 2 else 0


def has_oblong_tables(state: Arrays) -> bool:
    """Return whether bias tables of timm are of maps that cannot be square."""
    return any(
        key.endswith("bias_table") and table.ndim == 2 and not _square_side(table)
        for key, table in state.items()
    )
