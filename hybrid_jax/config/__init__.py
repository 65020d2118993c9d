"""The config of an experiment: its fields, its files, and how both are checked.

A config file starts from `default()`, or from an experiment of this project, such as
`experiment("cifar10", model)`.
"""

from typing import Any

__all__ = ["default", "experiment"]


def __getattr__(name: str) -> Any:
    # Imported on demand, so that importing the schema alone is fast.
    if name not in __all__:
        raise AttributeError(f"module 'hybrid_jax.config' has no attribute {name!r}")
    from hybrid_jax.config import files, resolve

    return resolve.default if name == "default" else files.experiment
