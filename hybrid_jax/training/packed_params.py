"""Packed parameters: all vectors of a block in one array.

Scales, biases and running moments are two thirds of a network's arrays and a hundredth
of its numbers. Optimizer, averages and clipping take an operation or more for each
array: thousands per step, each to be compiled, loaded from the cache, and launched. So
a state holds a block's vectors end to end. The network and the files on disk keep them
apart.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.tree_util import DictKey

Path = tuple[str, ...]
Layout = tuple[tuple[Path, int], ...]  # path and size of each vector, in order
NAME = "vectors"  # name of the packed vectors in paths, beside a block's other parts


@jax.tree_util.register_pytree_with_keys_class
class PackedBlock:
    """A block's variables, its vectors in one array.

    In paths it looks like the dict of `rest` with one more entry, `vectors`.

    Attributes:
      rest: nested dicts of all other variables.
      vectors: `[sum of sizes]`, or what optax puts in its place.
      layout: path and size of each vector, in order.
    """

    def __init__(self, rest: dict, vectors: Any, layout: Layout):
        self.rest, self.vectors, self.layout = rest, vectors, layout

    def tree_flatten_with_keys(self) -> tuple[list, tuple]:
        """Return the children with their keys, and the static names and layout."""
        names = tuple(sorted(self.rest))
        children = [(DictKey(name), self.rest[name]) for name in names]
        return [*children, (DictKey(NAME), self.vectors)], (names, self.layout)

    @classmethod
    def tree_unflatten(cls, static: tuple, children: Any) -> "PackedBlock":
        """Return the block of the children and the static names and layout."""
        names, layout = static
        *rest, vectors = children
        return cls(dict(zip(names, rest, strict=True)), vectors, layout)


def pack(variables: dict, apart: dict | None = None) -> dict:
    """Return variables with each block's vectors packed.

    Args:
      variables: `{block: nested dict}` of parameters or statistics. Arrays outside of
        blocks, and blocks with a single vector, stay as they are.
      apart: a tree of bools, True for vectors to leave as they are; None for none.
    """
    return {
        name: _pack_block(block, apart[name] if apart else {})
        if isinstance(block, dict)
        else block
        for name, block in variables.items()
    }


def unpack(tree: Any) -> Any:
    """Return any tree, such as a state, with packed blocks as nested dicts.

    Gradients with respect to the tree come packed. NumPy arrays stay NumPy arrays.
    """

    def unpack_block(x: Any) -> Any:
        if not _is_packed(x):
            return x
        cut = _traced_split if isinstance(x.vectors, jax.Array) else _split
        return cut(x.layout, x.rest, x.vectors)

    return jax.tree.map(unpack_block, tree, is_leaf=_is_packed)


def pack_like(tree: Any, like: Any) -> Any:
    """Return an unpacked tree, packed again where `like` has packed blocks."""

    def pack_block(block: Any, part: Any) -> Any:
        return _join(part, block.layout) if _is_packed(block) else part

    return jax.tree.map(pack_block, like, tree, is_leaf=_is_packed)


def _is_packed(x: Any) -> bool:
    return isinstance(x, PackedBlock)


def _pack_block(block: dict, apart: dict) -> PackedBlock | dict:
    stays = flatten_dict(apart)
    arrays = flatten_dict(block)
    layout = tuple(
        (path, arrays[path].size)
        for path in sorted(arrays)
        if arrays[path].ndim == 1 and not stays.get(path)
    )
    return _join(block, layout) if len(layout) > 1 else block


def _join(block: dict, layout: Layout) -> PackedBlock:
    """Return a block with the vectors of a layout end to end."""
    arrays = flatten_dict(block)
    vectors = [arrays.pop(path) for path, _ in layout]
    return PackedBlock(_nest(arrays), _concatenate(vectors), layout)


def _concatenate(vectors: list) -> Any:
    first = vectors[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(vectors)
    # Where a transformation skips parameters, optax puts an empty node.
    return jnp.concatenate(vectors) if jax.tree.leaves(first) else first


def _split(layout: Layout, rest: dict, vectors: Any) -> dict:
    """Return a block's variables, its vectors apart."""
    arrays, start = flatten_dict(rest), 0
    is_array = bool(jax.tree.leaves(vectors))
    for path, size in layout:
        arrays[path] = vectors[start : start + size] if is_array else vectors
        start += size
    return _nest(arrays)


def _nest(arrays: dict[Path, Any]) -> dict:
    """Return nested dicts in the order of their paths."""
    return unflatten_dict({path: arrays[path] for path in sorted(arrays)})


def _split_forward(layout: Layout, rest: dict, vectors: jax.Array) -> tuple:
    return _split(layout, rest, vectors), None


def _split_backward(layout: Layout, _: None, gradient: dict) -> tuple:
    # Autodiff would pad the gradient of each vector to full length, and sum all.
    block = _join(gradient, layout)
    return block.rest, block.vectors


_traced_split = jax.custom_vjp(_split, nondiff_argnums=(0,))
_traced_split.defvjp(_split_forward, _split_backward)
