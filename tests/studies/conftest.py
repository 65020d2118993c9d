"""Studies of the tests train the models of `tests/sweeps/tiny.py`."""

from tests.sweeps.conftest import no_tiny_model  # noqa: F401
