"""Frozen parameters: those whose path matches a pattern are not trained."""

import re
from typing import Any

import jax

from hybrid_jax.training.packed_params import NAME as PACKED


def frozen_mask(params: Any, patterns: tuple[str, ...]) -> Any:
    """Return a tree of bools, True where a pattern matches a part of the path.

    Args:
      params: a tree of parameters, with paths such as `stem/conv1/kernel`. Vectors that
        are packed together have no path of their own: none of them is frozen, since
        frozen ones are not packed.
      patterns: regular expressions.
    """

    def is_frozen(path: jax.tree_util.KeyPath, _: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.rpartition("/")[2] == PACKED:
            return False
        return any(re.search(pattern, name) for pattern in patterns)

    return jax.tree_util.tree_map_with_path(is_frozen, params)


def stop_frozen_gradients(params: Any, patterns: tuple[str, ...]) -> Any:
    """Return the parameters; no gradient is computed for frozen ones."""
    return jax.tree.map(
        lambda p, is_frozen: jax.lax.stop_gradient(p) if is_frozen else p,
        params,
        frozen_mask(params, patterns),
    )
