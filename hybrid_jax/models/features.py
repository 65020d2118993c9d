"""Intermediate results of a network: maps, pooled features, attention weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError
from flax.traverse_util import flatten_dict

from hybrid_jax.errors import plural
from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.models.vit import ViT

WEIGHTS = "/attention/weights"  # the end of their paths, after the block's name


class Features(NamedTuple):
    """Features of `B` images, in the model's dtype unless stated otherwise.

    Attributes:
      pooled: `[B, F]`, the input of the classifier.
      maps: `[B, h, w, C]` each: the maps of a `HybridNet` after the stem and every
        stage; the patches of a `ViT` after every block, before the last norm.
      attention: float32 weights `[B, N, P, P]` of `N` heads, by transformer block, such
        as `stage4_block1`. The position of the second last axis attends to those of the
        last. MaxViT has two entries per block, `stage1_block1/block` and
        `stage1_block1/grid`, of `n` windows per image: `[B * n, N, P, P]`. The first
        position of a ViT is the class token. Rows sum to 1, unless `attention=post`
        adds the bias to them. Local self-attention (S) is not included.
    """

    pooled: jax.Array
    maps: list[jax.Array]
    attention: dict[str, jax.Array]


def extract_features(
    model: HybridNet | ViT,
    variables: dict,
    images: jax.Array,
    attention: bool = False,
) -> Features:
    """Compute features of images, in evaluation mode.

    Under `jax.jit`, `model` and `attention` are static, and a program computes only
    those features that it uses.

    Args:
      model: the network.
      variables: its parameters and batch statistics.
      images: float `[B, H, W, channels]`, normalized as in training.
      attention: whether to return attention weights, which take more memory than all
        maps; without it, `Features.attention` is empty.

    Raises:
      ValueError: the images have another shape, or the variables are of another model
        or of other channels.
    """
    height, width = model.image_size
    shape = np.shape(images)
    if len(shape) != 4 or shape[1:3] != (height, width):
        one = ": for one image, images[None]" if len(shape) == 3 else ""
        raise ValueError(
            f"images are {list(shape)}, and [B, {height}, {width}, channels] is "
            f"needed{one}"
        )
    if "params" not in variables:
        raise ValueError("variables have no 'params': give all that model.init returns")
    images = jnp.asarray(images)
    try:
        _, updated = model.apply(variables, images, mutable=["intermediates"])
    except (ScopeParamShapeError, ScopeParamNotFoundError) as error:
        raise ValueError(
            f"variables do not fit images of {plural(shape[-1], 'channel')} or this "
            "model: give those that its init returns for such images"
        ) from error
    sown = flatten_dict(updated["intermediates"], sep="/")  # a tuple each
    weights = {
        path.removesuffix(WEIGHTS): value
        for path, (value, *_) in sown.items()
        if attention and path.endswith(WEIGHTS)
    }
    (pooled,) = sown["head/features"]
    return Features(pooled, [*sown["maps"]], weights)
