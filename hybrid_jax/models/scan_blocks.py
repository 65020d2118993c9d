"""Blocks one behind the other, alike ones compiled once.

A stage is the same block over and over, and a program that spells out each takes as
much longer to compile as the stage is deep. Here the parameters of blocks that are
alike are stacked inside the program, and one block is scanned over them. Outside, every
block has its own parameters under its own name, scanned or not: checkpoints,
conversions and optimisers see no difference, nor do numbers, dropped paths included.
"""

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.backend import forms
from hybrid_jax.ops.batch_axis import Place, place

# What backward keeps of a block, and what it computes again.
REMAT = {
    "none": None,
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}

# Whether alike blocks are scanned over, from how many. On two CPU cores the steps of
# astroformer_1 take 1.6 times as long then, and it compiles no sooner, so CPUs spell
# them out. Accelerators scan over deep stages for the sake of compilation alone; their
# steps have not been measured.
SCAN = {"auto": 8, "on": 2, "off": None}


class Entry(NamedTuple):
    """A block of a network.

    Attributes:
      name: of its variables.
      kind: equal for blocks that differ in nothing but their variables and drop path.
      make: the block as a module, from `name` and `drop_path`.
      drop_path: its rate.
    """

    name: str
    kind: Hashable
    make: Callable[..., nn.Module]
    drop_path: float


def runs(network: nn.Module, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries in groups that `apply_run` applies at once.

    Blocks go one by one while variables are made, or maps are asked for.
    """
    least, on_cpu = SCAN[network.scan], jax.default_backend() == "cpu"
    if _spelt_out(network) or (network.scan == "auto" and on_cpu):
        least = None
    for _, group in itertools.groupby(entries, key=lambda entry: entry.kind):
        group = list(group)
        if least and len(group) >= least:
            yield group
        else:
            yield from ([entry] for entry in group)


def drop_key(network: nn.Module, train: bool) -> jax.Array | None:
    """What blocks draw from, each by its number; None where nothing is dropped."""
    dropping = train and network.has_rng("dropout")
    return network.make_rng("dropout") if dropping else None


def apply_run(
    network: nn.Module,
    run: list[Entry],
    x: jax.Array,
    train: bool,
    key: jax.Array | None,
) -> jax.Array:
    """A map behind the blocks of a run.

    Args:
      network: whose blocks they are, in its `__call__`; has a field `remat`.
      run: of `runs`.
      x: `[B, H, W, C]`.
      train: as in the network's `__call__`.
      key: of `drop_key`.
    """
    if _spelt_out(network):
        (entry,) = run
        return entry.make(name=entry.name, drop_path=entry.drop_path)(x, train)
    given = [_given(network, entry, key) for entry in run]
    module = run[0].make(name=None, parent=None)
    if any(entry.drop_path for entry in run):  # else a constant, which costs nothing
        given = [
            g | {"drop_path": e.drop_path} for g, e in zip(given, run, strict=True)
        ]
    block = partial(_block, module, train, (forms(), place()))
    if network.remat != "none":
        block = jax.checkpoint(block, policy=REMAT[network.remat])
    with jax.named_scope(run[0].name):
        if len(run) == 1:
            x, updated = block(x, given[0])
            updates = [updated]
        else:
            x, updates = _scanned(block, x, given)
    for entry, updated in zip(run, updates, strict=True):
        for collection, values in updated.items():
            network.put_variable(collection, entry.name, values)
    return x


def _spelt_out(network: nn.Module) -> bool:
    return network.is_initializing() or network.is_mutable_collection("intermediates")


def _given(network: nn.Module, entry: Entry, key: jax.Array | None) -> dict[str, Any]:
    """What one block is applied to, beside the map."""
    variables = {
        collection: values[entry.name]
        for collection, values in network.variables.items()
        if entry.name in values
    }
    number = int("".join(filter(str.isdigit, entry.name)))
    rngs = {} if key is None else {"dropout": jax.random.fold_in(key, number)}
    return {"variables": variables, "rngs": rngs}


@partial(jax.jit, static_argnums=(0, 1, 2))
def _block(
    module: nn.Module,
    train: bool,
    traced_for: tuple[str, Place],
    x: jax.Array,
    given: dict,
):
    """A map behind a block, and its updated statistics.

    Jitted so that alike blocks are traced once; XLA puts every call's operations in its
    place. `traced_for`, which the operations inside ask for, tells traces apart.
    """
    if "drop_path" in given:
        module = module.clone(drop_path=given["drop_path"])
    mutable = ["batch_stats"] if train else []
    return module.apply(
        given["variables"], x, train, rngs=given["rngs"], mutable=mutable
    )


def _scanned(block: Callable, x: jax.Array, given: list[dict]):
    """A map behind blocks that are alike, and each one's updated statistics."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *given)
    x, updated = lax.scan(block, x, stacked)
    return x, [
        jax.tree.map(lambda leaf, i=i: leaf[i], updated) for i in range(len(given))
    ]
