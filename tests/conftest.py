"""What all tests share: the CPU, one compilation cache, one folder of prepared data."""

import importlib.metadata
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
# What tests compile runs for moments, so it is compiled soon rather than well: in a
# quarter of the time. What the user's own XLA_FLAGS say comes later, and wins.
if os.environ["JAX_PLATFORMS"] == "cpu":
    _flags = ["--xla_backend_optimization_level=0"]
    _version = importlib.metadata.version("jax").split(".")
    if tuple(map(int, _version[:2])) < (0, 11):  # later ones may refuse an old flag
        _flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([*_flags, os.environ.get("XLA_FLAGS", "")])
_data = tempfile.TemporaryDirectory(prefix="hybrid_jax-data-")
os.environ["TFDS_DATA_DIR"] = _data.name

import jax  # noqa: E402

from hybrid_jax import data  # noqa: E402
from hybrid_jax.config.schema import DataConfig  # noqa: E402
from hybrid_jax.models.registry import MODELS  # noqa: E402

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


@pytest.fixture(scope="module", autouse=True)
def no_small_hybrid():
    """Takes back the row that `tests/small_hybrid.py` adds."""
    yield
    MODELS.pop("small_hybrid", None)


@pytest.fixture(scope="session")
def digits() -> data.Splits:
    """The real digits."""
    return data.load(DataConfig("digits", validation=0))
