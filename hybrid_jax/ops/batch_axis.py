"""How much of a batch a program sees: all of it, or one device's share.

Under `jit` a program is about whole arrays, and XLA cuts them up. Under `pmap` every
device runs it on a share of its own, so what concerns the whole batch has to be said:
moments, gradients, and draws, which must be those that one device would make. The
operations and layers that it concerns ask `place()`; all others need not know.
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
class Place:
    """A program that sees whole batches, and parameters as the network takes them."""

    def taken(self, params: Tree) -> Tree:
        """Parameters, from how a state keeps them to how a network takes them."""
        return params

    def whole(self, share: jax.Array) -> jax.Array:
        """`[B, ...]` of the whole batch, from this program's share of it."""
        return share

    def rows(self, array: jax.Array, numbers: jax.Array) -> jax.Array:
        """Rows `[B, ...]`, by their numbers `[B]`, of an array that is spread out."""
        return array[numbers]

    def share(self, batch: Tree) -> Tree:
        """This program's share of arrays `[B, ...]`: the inverse of `whole`."""
        return batch

    def summed(self, tree: Tree) -> Tree:
        """Over all shares."""
        return tree

    def averaged(self, tree: Tree) -> Tree:
        """Over all shares, which are of one size."""
        return tree

    def count(self, rows: int) -> int:
        """How many rows the whole batch has, of which the share has `rows`."""
        return rows

    def drawn(self, draw: Callable[[int], jax.Array], rows: int) -> jax.Array:
        """A draw for each of a share's rows, out of `draw(B)` for the whole batch."""
        return self.share(draw(self.count(rows)))


@dataclasses.dataclass(frozen=True)
class Share(Place):
    """One of several programs, each of which sees as many rows of a batch."""

    axis: str
    shares: int

    def whole(self, share):
        return lax.all_gather(share, self.axis, tiled=True)

    def rows(self, array, numbers):
        first = lax.axis_index(self.axis) * len(array)
        here = (numbers >= first) & (numbers < first + len(array))
        mine = array[numbers - first]  # elsewhere anything, within the array
        mask = here.reshape(-1, *[1] * (array.ndim - 1))
        return lax.psum(mine * mask.astype(array.dtype), self.axis)

    def share(self, batch):
        def cut(x):
            size = len(x) // self.shares
            return lax.dynamic_slice_in_dim(x, lax.axis_index(self.axis) * size, size)

        return jax.tree.map(cut, batch)

    def summed(self, tree):
        return lax.psum(tree, self.axis)

    def averaged(self, tree):
        return lax.pmean(tree, self.axis)

    def count(self, rows):
        return rows * self.shares


WHOLE = Place()
_place = contextvars.ContextVar("place", default=WHOLE)


def place() -> Place:
    """That of the program which is traced."""
    return _place.get()


@contextlib.contextmanager
def placed(there: Place) -> Iterator[None]:
    """Has a program traced as one that is there."""
    token = _place.set(there)
    try:
        yield
    finally:
        _place.reset(token)
