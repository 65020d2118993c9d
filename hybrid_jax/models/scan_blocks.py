"""Apply blocks one after the other, compiling equal ones once.

A stage repeats the same block, and a program that inlines each copy takes longer to
compile the deeper the stage is. Here the parameters of equal blocks are stacked inside
the program, and one block is scanned over them. Outside, every block has parameters
under its own name, scanned or not: checkpoints, conversions and optimizers see no
difference. Results are equal too, dropped paths included.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import target_backend, target_key
from hybrid_jax.ops.batch_axis import BatchAxis, current_axis
from hybrid_jax.ops.fusion import compiled_apart

# What the backward pass saves of a block; it recomputes the rest.
REMAT = {
    "none": None,
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}

# Smallest number of equal blocks that are scanned over. On two CPU cores the steps of
# astroformer_1 take 1.6 times as long with a scan, and it compiles no faster, so `auto`
# inlines blocks on CPUs. Accelerators scan over deep stages only to compile faster;
# their steps have not been measured.
SCAN = {"auto": 8, "on": 2, "off": None}


class Entry(NamedTuple):
    """A block of a network.

    Attributes:
      name: of the block and its variables.
      kind: equal for blocks that differ only in their variables and drop path.
      make: function from `name` and `drop_path` to the block as a module.
      drop_path: rate of stochastic depth.
    """

    name: str
    kind: Hashable
    make: Callable[..., nn.Module]
    drop_path: float


def group_blocks(network: nn.Module, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield groups of blocks, each of which `apply_group` applies at once.

    Every block is a group of its own while variables are initialized or intermediates
    are sown.
    """
    least, on_cpu = SCAN[network.scan], target_backend() == "cpu"
    if _is_inlined(network) or (network.scan == "auto" and on_cpu):
        least = None
    for _, equal in itertools.groupby(entries, key=lambda entry: entry.kind):
        group = list(equal)
        if least and len(group) >= least:
            yield group
        else:
            yield from ([entry] for entry in group)


def dropout_key(network: nn.Module, train: bool) -> jax.Array | None:
    """Return the key that blocks derive their keys from; None without dropout."""
    dropping = train and network.has_rng("dropout")
    return network.make_rng("dropout") if dropping else None


def apply_group(
    network: nn.Module,
    group: list[Entry],
    x: jax.Array,
    train: bool,
    key: jax.Array | None,
) -> jax.Array:
    """Apply the blocks of a group to a map `[B, H, W, C]`; return the new map.

    Args:
      network: the network that calls this in its `__call__`; has a field `remat`.
      group: blocks from `group_blocks`.
      x: the map.
      train: mode of batch norm and dropout.
      key: from `dropout_key`.
    """
    if _is_inlined(network):
        (entry,) = group
        return entry.make(name=entry.name, drop_path=entry.drop_path)(x, train)
    inputs = [_block_inputs(network, entry, key) for entry in group]
    module = group[0].make(name=None, parent=None)
    if any(entry.drop_path for entry in group):  # else a constant, which costs nothing
        for entry, block_inputs in zip(group, inputs, strict=True):
            block_inputs["drop_path"] = entry.drop_path
    block: Callable = partial(
        _apply_block, module, train, (target_key(), current_axis())
    )
    if network.remat != "none":
        block = jax.checkpoint(block, policy=REMAT[network.remat])
    with jax.named_scope(group[0].name):
        if len(group) == 1:
            x, *updates = block(x, inputs[0])
        else:
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *inputs)
            x, updated = lax.scan(block, x, stacked)
            updates = [
                jax.tree.map(lambda leaf, i=i: leaf[i], updated)
                for i in range(len(group))
            ]
    for entry, updated in zip(group, updates, strict=True):
        for collection, values in updated.items():
            network.put_variable(collection, entry.name, values)
    return x


def _is_inlined(network: nn.Module) -> bool:
    return network.is_initializing() or network.is_mutable_collection("intermediates")


def _block_inputs(
    network: nn.Module, entry: Entry, key: jax.Array | None
) -> dict[str, Any]:
    """Return the variables and random keys of one block."""
    variables = {
        collection: values[entry.name]
        for collection, values in network.variables.items()
        if entry.name in values
    }
    number = int("".join(filter(str.isdigit, entry.name)))
    rngs = {} if key is None else {"dropout": jax.random.fold_in(key, number)}
    return {"variables": variables, "rngs": rngs}


@partial(compiled_apart, static_argnums=(0, 1, 2))
def _apply_block(
    module: nn.Module,
    train: bool,
    trace_context: tuple[Hashable, BatchAxis],
    x: jax.Array,
    inputs: dict[str, Any],
) -> tuple[jax.Array, dict[str, Any]]:
    """Apply a block to a map; return the new map and updated batch statistics.

    Equal blocks are traced once. A CPU compiles each apart, so that it keeps no more of
    a block for the backward pass than what the operations save. Operations inside read
    `trace_context` while they are traced, so it is part of the key of jit's cache.
    """
    if "drop_path" in inputs:
        module = module.clone(drop_path=inputs["drop_path"])
    mutable = ["batch_stats"] if train else []
    apply: Callable = module.apply
    return apply(inputs["variables"], x, train, rngs=inputs["rngs"], mutable=mutable)
