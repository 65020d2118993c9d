"""Image classifiers that mix convolutions and attention, trained from scratch in JAX.

    import hybrid_jax
    model = hybrid_jax.create_model("astroformer_nano", num_classes=10, image_size=32)

Importing the package is free; jax is imported when a name that needs it is used.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "create_model": "hybrid_jax.models",
    "extract_features": "hybrid_jax.models.features",
    "list_models": "hybrid_jax.models",
    "load_weights": "hybrid_jax.training.weights",
    "summary": "hybrid_jax.models.summary",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'hybrid_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
