"""The config of an experiment: its fields, its files, and what they resolve to.

`default()` is what a config file starts from.
"""

from typing import Any

__all__ = ["default"]


def __getattr__(name: str) -> Any:
    # Imported late, so that the schema alone costs next to nothing.
    if name not in __all__:
        raise AttributeError(f"module 'hybrid_jax.config' has no attribute {name!r}")
    from hybrid_jax.config import resolve

    return resolve.default
