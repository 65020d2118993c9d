"""Arrays of a file as float32, if they can be weights."""

from collections.abc import Collection
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from hybrid_jax.errors import UserError, listed, plural
from hybrid_jax.weights.timm_models import Arrays
from hybrid_jax.weights.timm_names import DERIVED


def to_float32(path: Path, arrays: Arrays) -> Arrays:
    """Return arrays as float32.

    Single numbers, which count, and tables that timm stores beside its weights may be
    whole.

    Args:
      path: the file, for errors.
      arrays: of any type, by name.

    Raises:
      UserError: some hold other numbers, such as quantized ones, whose scale is not
        known, or values that are not finite.
    """
    weights = {
        name: array
        for name, array in arrays.items()
        if not (name.endswith(DERIVED) or (array.ndim == 0 and array.dtype.kind == "i"))
    }
    kinds = {n: x.dtype.name for n, x in weights.items() if not _is_float(x)}
    if kinds:
        kind = listed(sorted({*kinds.values()}))
        raise UserError(
            f"{path} holds {kind} in {_in_words(kinds)}, which is no weight: give "
            "weights in float16, bfloat16 or float32, as before they were quantized"
        )
    with np.errstate(over="ignore"):
        converted = {n: x.astype(np.float32) for n, x in arrays.items()}
    bad = [name for name in weights if not np.isfinite(converted[name]).all()]
    if bad:
        raise UserError(
            f"{path} holds NaN or infinite values in {_in_words(bad)}: it is damaged, "
            "or its training diverged; give other weights"
        )
    return converted


def _is_float(array: np.ndarray) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.floating))  # NumPy knows no bfloat16


def _in_words(names: Collection[str]) -> str:
    return f"{plural(len(names), 'array')} ({listed([*names])})"
