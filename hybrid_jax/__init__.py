"""Image classifiers that mix convolutions and attention, trained from scratch in JAX.

    import hybrid_jax
    run = hybrid_jax.fit("configs/digits.py", {"train": (images, labels)})
    run.predict(other_images)
    model = hybrid_jax.create_model("astroformer_nano", num_classes=10, image_size=32)

Importing the package is fast: jax is imported only when a name that needs it is used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "hybrid_jax.classifier",
    "create_model": "hybrid_jax.models",
    "default_config": "hybrid_jax.config.resolve:default",
    "evaluate": "hybrid_jax.evaluation.evaluate",
    "extract_features": "hybrid_jax.models.features",
    "fit": "hybrid_jax.engine.fit",
    "load_run": "hybrid_jax.runs.load_run",
    "list_models": "hybrid_jax.models",
    "load_weights": "hybrid_jax.runs.weights",
    "summary": "hybrid_jax.models.summary",
    "write_report": "hybrid_jax.reports.write",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hybrid_jax' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return __all__
