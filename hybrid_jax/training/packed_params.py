"""Short vectors, one array of a block's instead of a dozen.

Scales, biases and running moments are two thirds of a network's arrays and a hundredth
of its numbers. Optimiser, averages and clipping take an operation or more for each, so
thousands a step, each to be compiled, loaded from the cache, and launched. So a state
holds a block's vectors end to end; the network, and what is on disk, see them cut.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey

Path = tuple[str, ...]
Layout = tuple[tuple[Path, int], ...]  # path and size, in order
NAME = "vectors"  # of the joined ones, among the names of a block's other parts


@jax.tree_util.register_pytree_with_keys_class
class Bundle:
    """A block's variables, nested dicts, with its vectors apart.

    In paths it looks like the dict of `rest` with one more entry, `vectors`.

    Attributes:
      rest: what is not joined.
      vectors: those joined, `[sum of sizes]`.
      layout: of these.
    """

    def __init__(self, rest: dict, vectors, layout: Layout):
        self.rest, self.vectors, self.layout = rest, vectors, layout

    def tree_flatten_with_keys(self):
        """Children with their keys, and what is static."""
        names = tuple(sorted(self.rest))
        children = [(DictKey(name), self.rest[name]) for name in names]
        return [*children, (DictKey(NAME), self.vectors)], (names, self.layout)

    @classmethod
    def tree_unflatten(cls, static, children) -> "Bundle":
        """The inverse."""
        names, layout = static
        *rest, vectors = children
        return cls(dict(zip(names, rest, strict=True)), vectors, layout)


def bundled(collection: dict, apart: dict | None = None) -> dict:
    """Variables by block, `{name: nested dict}`, each block's vectors joined.

    Args:
      collection: parameters or statistics; what lies outside of blocks stays as it is.
      apart: a tree of bools, True for what is not to be joined; None is nothing.
    """
    return {
        name: _joined(block, apart[name] if apart else {})
        if isinstance(block, dict)
        else block
        for name, block in collection.items()
    }


def unbundled(tree: Any) -> Any:
    """Any tree with its bundles as the nested dicts that they were.

    Gradients come back bundled. What is joined in NumPy is cut there.
    """

    def cut(x):
        if not _is_bundle(x):
            return x
        cut = _slices if isinstance(x.vectors, np.ndarray) else _cut
        return cut(x.layout, x.rest, x.vectors)

    return jax.tree.map(cut, tree, is_leaf=_is_bundle)


def rebundled(tree: Any, like: Any) -> Any:
    """The inverse of `unbundled`: bundles wherever `like` has them."""

    def join(bundle, part):
        return _gathered(part, bundle.layout) if _is_bundle(bundle) else part

    return jax.tree.map(join, like, tree, is_leaf=_is_bundle)


def _is_bundle(x: Any) -> bool:
    return isinstance(x, Bundle)


def _joined(block: dict, apart: dict) -> Bundle | dict:
    lonely = {path for path, alone in _flat(apart) if alone}
    layout = tuple(
        (path, x.size) for path, x in _flat(block) if x.ndim == 1 and path not in lonely
    )
    return _gathered(block, layout) if len(layout) > 1 else block


def _gathered(block: dict, layout: Layout) -> Bundle:
    parts = dict(_flat(block))
    vectors = [parts.pop(path) for path, _ in layout]
    library = np if isinstance(vectors[0], np.ndarray) else jnp
    return Bundle(_nested(parts), library.concatenate(vectors), layout)


def _slices(layout: Layout, rest: dict, vectors) -> dict:
    """The block's variables."""
    parts, start = dict(_flat(rest)), 0
    for path, size in layout:
        parts[path] = vectors[start : start + size]
        start += size
    return _nested(parts)


def _cut_forward(layout, rest, vectors):
    return _slices(layout, rest, vectors), None


def _cut_backward(layout, _, gradient):
    # Autodiff would pad the gradient of each vector, and add up as many.
    bundle = _gathered(gradient, layout)
    return bundle.rest, bundle.vectors


_cut = jax.custom_vjp(_slices, nondiff_argnums=(0,))
_cut.defvjp(_cut_forward, _cut_backward)


def _flat(block: dict, above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Leaves of nested dicts, in the order of their paths."""
    for name in sorted(block):
        path = (*above, name)
        if isinstance(block[name], dict):
            yield from _flat(block[name], path)
        else:
            yield path, block[name]


def _nested(parts: dict[Path, Any]) -> dict:
    nested: dict = {}
    for path in sorted(parts):
        inside = nested
        for name in path[:-1]:
            inside = inside.setdefault(name, {})
        inside[path[-1]] = parts[path]
    return nested
