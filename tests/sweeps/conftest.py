"""What the tests of sweeps undo."""

import pytest

from hybrid_jax.models.registry import MODELS


@pytest.fixture(autouse=True)
def no_tiny_model():
    """Takes back the row that `tiny.py` adds."""
    yield
    MODELS.pop("tiny", None)
