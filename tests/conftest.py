"""What all tests share: the CPU, one compilation cache, one folder of prepared data."""

import gc
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
# Each process of pytest has a core. Threads of PyTorch and BLAS would only wait there.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What tests compile runs for moments, so it is compiled soon rather than well: in a
# fifth of the time. What the user's own XLA_FLAGS say comes later, and wins.
if os.environ["JAX_PLATFORMS"] == "cpu":
    _flags = ["--xla_backend_optimization_level=0"]
    _version = importlib.metadata.version("jax").split(".")
    if tuple(map(int, _version[:2])) < (0, 11):  # later ones may refuse an old flag
        _flags.append("--xla_cpu_use_fusion_emitters=false")
        _flags.append("--xla_cpu_parallel_codegen_split_count=1")
    os.environ["XLA_FLAGS"] = " ".join([*_flags, os.environ.get("XLA_FLAGS", "")])
_data = tempfile.TemporaryDirectory(prefix="hybrid_jax-data-")
os.environ["TFDS_DATA_DIR"] = _data.name

import jax  # noqa: E402

from hybrid_jax import data, runtime  # noqa: E402
from hybrid_jax.config.schema import DataConfig  # noqa: E402
from hybrid_jax.models.registry import MODELS  # noqa: E402

jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
gc.set_threshold(runtime.GC_THRESHOLD)  # as commands do

# These take longest and start first, so that both processes end at the same time.
LONGEST = [
    Path(__file__).parent / name
    for name in (
        "models/test_parity.py",
        "models/test_equivariance.py",
        "end_to_end/test_interruption.py",
        "parallel/test_distributed.py",
        "end_to_end/test_run.py",
        "sweeps/test_sweep.py",
        "models/test_hybrid.py",
        "parallel/test_kinds.py",
        "test_classifier.py",
        "docs/test_examples.py",
        "engine/test_fit.py",
        "models/test_scan_blocks.py",
        "training/test_finetuning.py",
        "studies/test_study.py",
        "export/test_export.py",
        "studies/test_scaling.py",
        "launch/test_tpu.py",
        "sweeps/test_choosing.py",
        "reports/test_report.py",
        "launch/test_notebook.py",
        "studies/test_ablation.py",
        "sweeps/test_postgresql.py",
        "sweeps/test_folds.py",
        "end_to_end/test_paths.py",
    )
]


def pytest_collection_modifyitems(items):
    assert all(path.exists() for path in LONGEST)
    places = {path: place for place, path in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


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
def little_garbage():
    """Hides what a module leaves behind, such as imports, from later collections.

    Sweeps and studies collect garbage after each run, which would take longer and
    longer.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def no_small_hybrid():
    """Takes back the row that `tests/small_hybrid.py` adds."""
    yield
    MODELS.pop("small_hybrid", None)


@pytest.fixture(scope="session")
def digits() -> data.Splits:
    """The real digits."""
    return data.load(DataConfig("digits", validation=0))
