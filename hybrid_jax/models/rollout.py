"""Where attention looks: attention rollout (Abnar & Zuidema 2020, section 4).

In this model of a layer, the output at a position is half the input at that position
(the shortcut), and half the mean of all inputs, weighted by attention. So each layer is
a matrix over positions. The product of all matrices says how much of each position
before the first layer reaches each position after the last.

Shapes: `B` images, `N` heads, `P` positions of a map `[h, w]`, `p` of one window.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from hybrid_jax.models.blocks import MBConv, Transformer, WideResidual
from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.models.strides import Size
from hybrid_jax.models.vit import ViT
from hybrid_jax.models.window_partition import PARTITIONS


class Layer(NamedTuple):
    """An attention layer of a forward pass: its weights, map and windows.

    Attributes:
      weights: `[B * n, N, p, p]` of `n` windows per image.
      size: `(h, w)` of the map.
      partition: a key of `window_partition.PARTITIONS`.
      window: size of a window; None where the map is whole.
    """

    weights: jax.Array
    size: Size
    partition: str
    window: Size | None


def attention_rollout(
    model: nn.Module, variables: dict, images: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Return the logits, and the attention rollout of the last transformer blocks.

    The rollout covers the last transformer blocks that share one map size, without a
    convolution block between them. It is read at the class token of a `ViT`, and
    averaged over the positions of a `HybridNet`. With `attention=post`, only the
    softmax counts, since the bias is the same for all images.

    Args:
      model: the network, a `HybridNet` or a `ViT`.
      variables: its parameters and batch statistics.
      images: float `[B, H, W, channels]`, normalized as in training.

    Returns:
      Logits `[B, num_classes]`; and each pixel's share of attention, float32
      `[B, H, W]`, or None without transformer blocks. The shares of an image sum to 1,
      and all pixels of a position have the same share.
    """
    found: list[Layer | None] = []
    with nn.intercept_methods(functools.partial(_record, found)):
        logits, _ = model.apply(variables, images, mutable=["intermediates"])
    layers = _last_layers(found)
    if not layers:
        return logits, None
    size, positions = layers[-1].size, math.prod(layers[-1].size)
    shortcut = jnp.eye(positions)
    rolled = shortcut
    for layer in layers:
        rolled = (shortcut + over_map(layer, len(images))) / 2 @ rolled
    if isinstance(model, ViT):
        (size,), side = model.map_sizes, model.patch_size
        looks = rolled[:, 0, 1:]  # the first position is the class token
    else:
        assert isinstance(model, HybridNet)
        looks = rolled.mean(1)
        side = math.prod(model.strides[: model.map_sizes.index(size) + 1])
    looks = looks.reshape(-1, *size).repeat(side, 1).repeat(side, 2)
    looks = looks[:, : images.shape[1], : images.shape[2]]
    return logits, looks / looks.sum((1, 2), keepdims=True)


def _record(
    found: list[Layer | None], call: Any, args: Any, kwargs: Any, context: Any
) -> Any:
    """Run a module; note its attention, or None for a block of convolutions."""
    output, module = call(*args, **kwargs), context.module
    if isinstance(module, Transformer) and context.method_name == "__call__":
        (weights,) = module.variables["intermediates"]["attention"]["softmax"]
        size = output.shape[1:3]
        found.append(Layer(weights, size, module.partition, module.window))
    elif isinstance(module, (MBConv, WideResidual)):
        found.append(None)
    return output


def _last_layers(found: list[Layer | None]) -> list[Layer]:
    """Return the last layers, in order, that see one map with no convolution between.

    Convolutions after the last attention are skipped.
    """
    backwards = itertools.dropwhile(lambda layer: layer is None, reversed(found))
    layers: list[Layer] = []
    for layer in backwards:
        if layer is None or (layers and layer.size != layers[0].size):
            break
        layers.insert(0, layer)
    return layers


def over_map(layer: Layer, batch: int) -> jax.Array:
    """Return a layer's weights `[B, P, P]` over its whole map, averaged over heads.

    Weights between different windows are 0. Padding of windows is left out.
    """
    positions = math.prod(layer.size)
    numbers = jnp.arange(1, 1 + positions).reshape(1, *layer.size, 1)  # 0 is padding
    windows = PARTITIONS[layer.partition](numbers, layer.window).x
    windows = windows.reshape(len(windows), -1)
    weights = layer.weights.mean(1).reshape(batch, *windows.shape, -1)
    place = windows[:, :, None], windows[:, None, :]
    whole = jnp.zeros((batch, 1 + positions, 1 + positions))
    return whole.at[:, *place].add(weights)[:, 1:, 1:]
