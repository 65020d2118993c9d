"""The batch axis of the program that is being traced: whole, or sharded by device.

Under `jit` a program computes on whole arrays, and XLA partitions them. Under `pmap`
every device runs it on a shard, so whatever concerns the whole batch needs a
collective: moments, gradients, and random draws, which must equal those of one device.
Operations and layers that need one call `current_axis()`.

Shapes: `B` images of the whole batch, `b` of a shard.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
from jax import lax

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class BatchAxis:
    """The axis of a whole batch: every collective is the identity, and `b` is `B`."""

    def gather_params(self, params: Tree) -> Tree:
        """Return whole parameters from the shards that the state stores."""
        return params

    def all_gather(self, shard: jax.Array) -> jax.Array:
        """Return `[B, ...]` from this program's shard `[b, ...]`."""
        return shard

    def take_rows(self, array: jax.Array, indices: jax.Array) -> jax.Array:
        """Return the rows `[B, ...]` at indices `[B]` of an array sharded by rows."""
        return array[indices]

    def shard(self, batch: Tree) -> Tree:
        """Return this program's shards of arrays `[B, ...]`, undoing `all_gather`."""
        return batch

    def psum(self, tree: Tree) -> Tree:
        """Sum over shards."""
        return tree

    def pmean(self, tree: Tree) -> Tree:
        """Average over shards, which are of equal size."""
        return tree

    def global_size(self, rows: int) -> int:
        """Return the number of rows of the whole batch, of which a shard has `rows`."""
        return rows

    def sample(self, draw: Callable[[int], jax.Array], rows: int) -> jax.Array:
        """Return a draw for each row of a shard, from `draw(B)` for the whole batch."""
        return self.shard(draw(self.global_size(rows)))


@dataclasses.dataclass(frozen=True)
class ShardedAxis(BatchAxis):
    """A named axis of programs, each of which has an equal shard of the batch.

    Attributes:
      name: of the axis.
      shards: number of programs.
    """

    name: str
    shards: int

    def all_gather(self, shard: jax.Array) -> jax.Array:
        return lax.all_gather(shard, self.name, tiled=True)

    def take_rows(self, array: jax.Array, indices: jax.Array) -> jax.Array:
        first = lax.axis_index(self.name) * len(array)
        here = (indices >= first) & (indices < first + len(array))
        rows = array[indices - first]  # rows of other shards are masked below
        mask = here.reshape(-1, *[1] * (array.ndim - 1))
        return lax.psum(rows * mask.astype(array.dtype), self.name)

    def shard(self, batch: Tree) -> Tree:
        def slice_rows(x: jax.Array) -> jax.Array:
            size = len(x) // self.shards
            return lax.dynamic_slice_in_dim(x, lax.axis_index(self.name) * size, size)

        return jax.tree.map(slice_rows, batch)

    def psum(self, tree: Tree) -> Tree:
        return lax.psum(tree, self.name)

    def pmean(self, tree: Tree) -> Tree:
        return lax.pmean(tree, self.name)

    def global_size(self, rows: int) -> int:
        return rows * self.shards


UNSHARDED = BatchAxis()
_axis = contextvars.ContextVar("batch_axis", default=UNSHARDED)


def current_axis() -> BatchAxis:
    """Return the batch axis of the program that is being traced."""
    return _axis.get()


@contextlib.contextmanager
def use_axis(axis: BatchAxis) -> Iterator[None]:
    """Trace the enclosed code on this batch axis."""
    token = _axis.set(axis)
    try:
        yield
    finally:
        _axis.reset(token)
