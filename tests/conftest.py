"""What all tests share: the CPU, one compilation cache, one folder of prepared data."""

import os
import signal
import tempfile
from pathlib import Path

import platformdirs
import pytest
from hypothesis import settings

# A busy machine is no error; speed is measured in benchmarks.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Before jax and TFDS are imported; commands that the tests start inherit it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
CACHE = Path(
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR",
        str(platformdirs.user_cache_path("hybrid_jax") / "xla-tests"),
    )
)
_data = tempfile.TemporaryDirectory(prefix="hybrid_jax-data-")
os.environ["TFDS_DATA_DIR"] = _data.name

import jax  # noqa: E402

from hybrid_jax import data  # noqa: E402
from hybrid_jax.config.schema import DataConfig  # noqa: E402

jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="session", autouse=True)
def signals():
    """Undoes what a script or nohup ignores for the tests: they send these signals."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def digits() -> data.Splits:
    """The real digits."""
    return data.load(DataConfig("digits", validation=0))
