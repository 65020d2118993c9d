"""The config of an experiment: its fields, its files, and what they resolve to.

`default()` is what a config file starts from, or `experiment("cifar10", model)`, one of
this project's.
"""

from typing import Any

__all__ = ["default", "experiment"]


def __getattr__(name: str) -> Any:
    # Imported late, so that the schema alone costs next to nothing.
    if name not in __all__:
        raise AttributeError(f"module 'hybrid_jax.config' has no attribute {name!r}")
    from hybrid_jax.config import files, resolve

    return resolve.default if name == "default" else files.experiment
