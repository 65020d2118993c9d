"""The optimiser: AdamW under a warm-up and cosine schedule.

Weight decay acts on weights alone (`models.parameters`). Norms, biases, relative bias
tables, tokens and positions are left alone, as in CoAtNet and timm.

Fine-tuning freezes what a pattern names, and lets layers learn slower the further they
are from the head.
"""

import re

import jax
import numpy as np
import optax

from hybrid_jax.models.weight_rule import is_weight


def schedule(peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear from 0 to `peak`, then a cosine to 0 at `total_steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, total_steps)


def decayed(params) -> dict:
    """A tree of bools: True for weights."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: is_weight(path[-1].key, x.ndim), params
    )


def frozen(params, patterns: tuple[str, ...]) -> dict:
    """A tree of bools: True where a pattern is found in a path such as `stem/conv1`."""

    def is_frozen(path, _):
        name = "/".join(key.key for key in path)
        return any(re.search(pattern, name) for pattern in patterns)

    return jax.tree_util.tree_map_with_path(is_frozen, params)


def held(params, patterns: tuple[str, ...]) -> dict:
    """Parameters, those frozen without a gradient, so that none is computed."""
    return jax.tree.map(
        lambda p, still: jax.lax.stop_gradient(p) if still else p,
        params,
        frozen(params, patterns),
    )


def layer_factors(params, decay: float) -> dict:
    """A tree of learning rate factors, `decay` to the power of layers from the head.

    The head is the last layer, with factor 1; before it every block is one, and what
    comes before the blocks (stem, or patches, token and positions) is the first
    (Bao et al. 2022, BEiT, appendix).
    """
    numbers = {name: _block_number(name) for name in params}
    blocks = sorted({n for n in numbers.values() if n})
    layers = {
        name: len(blocks) + 1 if name == "head" else 1 + blocks.index(n) if n else 0
        for name, n in numbers.items()
    }
    return {
        name: jax.tree.map(lambda _, k=layers[name]: decay ** (len(blocks) + 1 - k), p)
        for name, p in params.items()
    }


def _block_number(name: str) -> tuple[int, ...]:
    """`stage3_block12` as (3, 12), `block7` as (7,), anything else as ()."""
    if not re.fullmatch(r"(stage\d+_)?block\d+", name):
        return ()
    return tuple(map(int, re.findall(r"\d+", name)))


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights float32 `[classes]`, inverse to a class's images, as scikit-learn's.

    Their mean over the images is 1, so that a learning rate means the same as without.
    """
    counts = np.bincount(labels, minlength=classes)
    present = np.maximum(counts, 1) * np.count_nonzero(counts)
    return np.where(counts, len(labels) / present, 0).astype(np.float32)


# How much each class's part of the loss counts.
CLASS_WEIGHTS = {"none": lambda labels, classes: None, "balanced": balanced_weights}


def adamw(
    learning_rate: optax.Schedule,
    weight_decay: float,
    clip_norm: float,
    layer_decay: float = 1.0,
    freeze: tuple[str, ...] = (),
) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter 2019) behind a clip of the global gradient norm.

    Args:
      learning_rate: of the head.
      weight_decay: of weights, relative to the learning rate.
      clip_norm: 0 does not clip.
      layer_decay: of the learning rate from a layer to the one before it.
      freeze: patterns of parameters that are kept; they have no moments either.
    """
    parts = [optax.adamw(learning_rate, weight_decay=weight_decay, mask=decayed)]
    if clip_norm:
        parts.insert(0, optax.clip_by_global_norm(clip_norm))
    if layer_decay != 1.0:
        parts.append(_scaled_by_layer(layer_decay))
    optimiser = optax.chain(*parts)
    if not freeze:
        return optimiser
    return optax.partition(
        {False: optimiser, True: optax.set_to_zero()},
        lambda params: frozen(params, freeze),
    )


def _scaled_by_layer(decay: float) -> optax.GradientTransformation:
    def scale(updates, _):
        factors = layer_factors(updates, decay)
        return jax.tree.map(lambda u, factor: u * factor, updates, factors)

    return optax.stateless(scale)
