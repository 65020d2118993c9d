"""Optimizers, and what goes around each of them.

A row of `OPTIMIZERS` maps a schedule and a config to an optax transformation. To add an
optimizer, add such a function and its row. Biases and norms of a block share one array
(`packed_params`), so whatever an optimizer computes per array, such as a norm, must be
masked to weights by `decay_mask`.

`create_optimizer` adds to every row: clipping of the gradient norm, a learning rate
that decays by layer from the head to the stem, frozen parameters, Lookahead and
sharpness-aware minimization (SAM).

Weight decay acts on weights alone (`models.weight_rule`). Norms, biases, relative bias
tables, tokens and positions do not decay, as in CoAtNet and timm.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.models.weight_rule import is_weight
from hybrid_jax.training.freezing import frozen_mask

SLOW_STEP_SIZE = 0.5  # of Lookahead, from slow weights towards fast ones
TINY = 1e-12  # keeps SAM from dividing by a norm of 0


def decay_mask(params: Any) -> Any:
    """Return a tree of bools, True for weights, which decay."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: is_weight(path[-1].key, x.ndim), params
    )


def adamw(
    learning_rate: optax.Schedule, config: OptimConfig
) -> optax.GradientTransformation:
    """Return AdamW (Loshchilov & Hutter 2019), its decay times the learning rate."""
    return optax.adamw(learning_rate, weight_decay=config.weight_decay, mask=decay_mask)


def sgd(
    learning_rate: optax.Schedule, config: OptimConfig
) -> optax.GradientTransformation:
    """Return gradient descent with Nesterov momentum.

    Weight decay is not decoupled: it is added to the gradient, as in PyTorch and in
    Zagoruyko & Komodakis 2016, Wide Residual Networks.
    """
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, decay_mask),
        optax.sgd(learning_rate, config.momentum, nesterov=True),
    )


def lamb(
    learning_rate: optax.Schedule, config: OptimConfig
) -> optax.GradientTransformation:
    """Return LAMB (You et al. 2020): Adam scaled by each weight's trust ratio.

    Only weights have a trust ratio, as in timm; here they have it without a decay, too.
    Vectors could not have one, since those of a block share an array.
    """
    return optax.chain(
        optax.scale_by_adam(eps=1e-6),
        optax.add_decayed_weights(config.weight_decay, decay_mask),
        optax.masked(optax.scale_by_trust_ratio(), decay_mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def muon(
    learning_rate: optax.Schedule, config: OptimConfig
) -> optax.GradientTransformation:
    """Return Muon (Jordan 2024) for hidden matrices, and Adam for all else.

    `muon_dimensions` says which are which. Both have Nesterov momentum. Updates of
    matrices are scaled to the size of Adam's (Liu et al. 2025, Muon is Scalable), so
    that both share a learning rate and a weight decay, such as AdamW's.
    """
    direction = optax.contrib.muon(
        learning_rate=-1.0,  # the update itself; rate and decay follow
        consistent_rms=0.2,
        muon_weight_dimension_numbers=muon_dimensions,
    )
    return optax.chain(
        direction,
        optax.add_decayed_weights(config.weight_decay, decay_mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def muon_dimensions(params: Any) -> Any:
    """Return, as a tree, how Muon reads each parameter as a matrix; None for Adam.

    Muon takes the weights of blocks: `[in, out]`, `[h, w, in, out]` of convolutions as
    `[h w in, out]`, and `[heads, in, out]` as one matrix per head. Adam takes all other
    parameters: stem, embeddings and head, all vectors and tables, and weights with one
    input or output per filter, such as depthwise kernels.
    """

    def dimensions(
        path: jax.tree_util.KeyPath, x: Any
    ) -> optax.contrib.MuonDimensionNumbers | None:
        in_block = bool(_block_number(path[0].key))
        if not (in_block and is_weight(path[-1].key, x.ndim)) or 1 in x.shape[-2:]:
            return None
        inputs = tuple(range(x.ndim - 1)) if x.ndim == 4 else (x.ndim - 2,)
        return optax.contrib.MuonDimensionNumbers(inputs, (x.ndim - 1,))

    return jax.tree_util.tree_map_with_path(dimensions, params)


class Rates(NamedTuple):
    """Numbers of an optimizer that are arguments of a program, not compiled in.

    Runs that differ only in these share a program: the trials of a search, or a run and
    a longer one.

    Attributes:
      learning_rate: of each step, float32 `[steps]`, or longer.
      weight_decay: float32.
    """

    learning_rate: Any
    weight_decay: Any


# The weight decay that a row gets may be traced, so Python conditions must not use it.
Row = Callable[[optax.Schedule, OptimConfig], optax.GradientTransformation]

OPTIMIZERS: dict[str, Row] = {"adamw": adamw, "sgd": sgd, "lamb": lamb, "muon": muon}


def create_optimizer(
    row: Row,
    learning_rate: optax.Schedule,
    config: OptimConfig,
    freeze: tuple[str, ...] = (),
) -> optax.GradientTransformation:
    """Return an optimizer with everything that the config adds to its row.

    Args:
      row: a value of `OPTIMIZERS`.
      learning_rate: schedule of the head's learning rate.
      config: of the optimizer.
      freeze: patterns of frozen parameters, which have no moments either.
    """
    parts = [row(learning_rate, config)]
    if config.clip_norm:
        parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.layer_decay != 1.0:
        parts.append(_scale_by_layer(config.layer_decay))
    optimizer = optax.chain(*parts)
    if freeze:
        optimizer = optax.partition(
            {False: optimizer, True: optax.set_to_zero()},
            lambda params: frozen_mask(params, freeze),
        )
    if config.lookahead_steps:
        optimizer = _lookahead(optimizer, config.lookahead_steps)
    if config.sam_rho:
        optimizer = optax.contrib.sam(
            optimizer, _ascent(config.sam_rho), opaque_mode=True
        )
    return optimizer


def gradients_per_step(config: OptimConfig) -> int:
    """Return how often a step computes the gradient of its batch; SAM does so twice."""
    return 2 if config.sam_rho else 1


def create_of_rates(
    row: Row, config: OptimConfig, freeze: tuple[str, ...] = ()
) -> Callable[[Rates], optax.GradientTransformation]:
    """Return a function that creates an optimizer from its rates, which may be traced.

    Args:
      row: a value of `OPTIMIZERS`.
      config: of the optimizer; its weight decay is not used.
      freeze: patterns of frozen parameters.
    """

    def create(rates: Rates) -> optax.GradientTransformation:
        return create_optimizer(
            row,
            lambda step: jnp.asarray(rates.learning_rate)[step],
            dataclasses.replace(config, weight_decay=rates.weight_decay),
            freeze,
        )

    return create


def layer_factors(params: Any, decay: float) -> Any:
    """Return a tree of factors of the learning rate: `decay ** (layers to the head)`.

    The head is the last layer, with factor 1. Each block before it is a layer. All
    parameters before the blocks (stem, or patches, token and positions) are the first
    layer.

    Source: Bao et al. 2022, BEiT, appendix.
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
    """Return `stage3_block12` as (3, 12), `block7` as (7,), anything else as ()."""
    if not re.fullmatch(r"(stage\d+_)?block\d+", name):
        return ()
    return tuple(map(int, re.findall(r"\d+", name)))


def _scale_by_layer(decay: float) -> optax.GradientTransformation:
    def scale(updates: Any, _: Any) -> Any:
        factors = layer_factors(updates, decay)
        return jax.tree.map(lambda u, factor: u * factor, updates, factors)

    return optax.stateless(scale)


def _ascent(rho: float) -> optax.GradientTransformation:
    """Return SAM's step to the worst point within `rho` (Foret et al. 2021).

    Its sign is that of a descent, since `optax.contrib.sam` reverses it.
    """

    def scale(gradients: Any, _: Any) -> Any:
        return optax.tree.scale(-rho / (optax.tree.norm(gradients) + TINY), gradients)

    return optax.stateless(scale)


class LookaheadState(NamedTuple):
    """Lookahead's slow weights, and the state of optax's own transformation."""

    fast: optax.LookaheadState
    slow: Any


def _lookahead(
    optimizer: optax.GradientTransformation, steps: int
) -> optax.GradientTransformation:
    """Return Lookahead (Zhang et al. 2019) that keeps slow weights in its state.

    The parameters are then the fast weights, and have one form for all optimizers.
    """
    pair = optax.lookahead(optimizer, steps, SLOW_STEP_SIZE)

    def init(params: Any) -> LookaheadState:
        fast = pair.init(optax.LookaheadParams(fast=params, slow=params))
        # Copied, since one buffer cannot be donated twice.
        return LookaheadState(fast, jax.tree.map(jnp.copy, params))

    def update(
        updates: Any, state: LookaheadState, params: Any = None
    ) -> tuple[Any, LookaheadState]:
        weights = optax.LookaheadParams(fast=params, slow=state.slow)
        updates, fast = pair.update(updates, state.fast, weights)
        slow = optax.apply_updates(state.slow, updates.slow)
        return updates.fast, LookaheadState(fast, slow)

    return optax.GradientTransformation(init, update)


def slow_weights(opt_state: optax.OptState) -> Any:
    """Return Lookahead's slow weights from an optimizer's state; None without any."""
    leaves = jax.tree.leaves(opt_state, is_leaf=_is_lookahead)
    return next((x.slow for x in leaves if _is_lookahead(x)), None)


def with_slow_weights(opt_state: optax.OptState, params: Any) -> optax.OptState:
    """Return an optimizer's state with `params` as Lookahead's slow weights."""
    return jax.tree.map(
        lambda x: x._replace(slow=params) if _is_lookahead(x) else x,
        opt_state,
        is_leaf=_is_lookahead,
    )


def _is_lookahead(x: Any) -> bool:
    return isinstance(x, LookaheadState)
