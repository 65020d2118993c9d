"""Studies of the tests train the models of `tests/sweeps/tiny.py`."""

import pytest

from hybrid_jax.profiling import device_peak
from hybrid_jax.studies import costs
from tests.commands import hybrid_jax
from tests.sweeps.conftest import no_tiny_model  # noqa: F401


@pytest.fixture
def in_process(monkeypatch):
    """Models are measured in this process, and soon."""

    def benchmark(flags, path):
        run = hybrid_jax("benchmark", *flags, "--seconds=0.02", f"--json={path}")
        assert run.returncode == 0, run.stderr

    monkeypatch.setattr(device_peak, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(costs, "benchmark", benchmark)
