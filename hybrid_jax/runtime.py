"""Settings of the process, made before the first array.

No flag of XLA is set here. Guides recommend Triton's matrix products, autotuning and
command buffers for one GPU, which are XLA's defaults by now; its latency-hiding
scheduler moves collectives, which one device has none of. On a CPU, neither a lower
`xla_backend_optimization_level` nor `xla_llvm_disable_expensive_passes` compiles a
training step sooner; what does is in `engine.compile` and `cli.common`.
"""

import ctypes
import gc
import hashlib
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import platformdirs

import hybrid_jax

# A compiled training step takes 2 to 20 MB, so the cache holds hundreds of them.
CACHE_BYTES = 4 << 30
# Allocations between two rounds of Python's garbage collector. Tracing makes millions
# of objects that stay; with Python's default a quarter of it is spent in the collector.
GC_THRESHOLD = 200_000
# Whose versions a run's folder keeps.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "pillow")


def set_up(compilation_cache: bool) -> None:
    """Set up the compilation cache, and collect garbage less often."""
    gc.set_threshold(GC_THRESHOLD)
    jax.config.update("jax_enable_compilation_cache", compilation_cache)
    if compilation_cache:
        use_compilation_cache()


def source_version() -> str:
    """Return the package's version and a digest of its code.

    The experiments that a wheel has inside the package are no part of the code.
    """
    digest = hashlib.sha256()
    root = Path(hybrid_jax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith("configs/"):
            digest.update(name.encode() + path.read_bytes())
    return f"{hybrid_jax.__version__} ({digest.hexdigest()[:12]})"


def environment() -> dict[str, str]:
    """Return versions and devices of this process, in words, by name."""
    found = {"hybrid_jax": source_version(), "Python": sys.version.split()[0]}
    found |= {name: metadata.version(name) for name in PACKAGES}
    devices = jax.devices()
    found["devices"] = f"{len(devices)} x {devices[0].device_kind}"
    return found | {"platform": platform.platform()}


def peak_memory(device: jax.Device) -> tuple[int, str]:
    """Return the most bytes that were in use, and whose they are.

    A CPU does not count its bytes. There the peak is the process's, Python and all
    else included.

    Returns:
      The bytes, and `device` or `process`.
    """
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return (_process_peak_bytes(), "process") if peak is None else (peak, "device")


class PlannedMemory(NamedTuple):
    """Bytes of a device that XLA planned a program with.

    Attributes:
      arguments: of these.
      results: without those that take the place of an argument.
      temporary: needed while the program runs.
    """

    arguments: int
    results: int
    temporary: int

    @property
    def resident(self) -> int:
        """Bytes that are needed before or after the program too."""
        return self.arguments + self.results


def planned_memory(program: jax.stages.Compiled) -> PlannedMemory | None:
    """Return what XLA planned a program with; None where the backend does not say."""
    plan = program.memory_analysis()
    return plan and PlannedMemory(
        plan.argument_size_in_bytes,
        plan.output_size_in_bytes - plan.alias_size_in_bytes,
        plan.temp_size_in_bytes,
    )


def release_unused_memory() -> None:
    """Give memory that was freed back to the kernel, where the C library can.

    Compiling leaves half a gigabyte, in pieces that hold no array of a training step.
    """
    trim = (
        getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    )
    if trim:
        trim(0)


def _process_peak_bytes() -> int:
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def jit_once(fn: Callable, **options: Any) -> Any:
    """Return `jax.jit` of a function that runs once, compiled with little optimization.

    Initializing a network draws from the random generator for every parameter, and on
    a CPU XLA would spend seconds on optimizing each draw.

    Args:
      fn: function to compile.
      **options: passed on to `jax.jit`.
    """
    if jax.default_backend() == "cpu":
        options["compiler_options"] = {"xla_backend_optimization_level": 0}
    return jax.jit(fn, **options)


def use_compilation_cache() -> Path:
    """Keep compiled programs in the user's cache folder, and return that folder.

    When the cache is full, the least recently used programs are removed.
    `JAX_COMPILATION_CACHE_DIR` names another folder, whose size is the user's to choose
    (`JAX_COMPILATION_CACHE_MAX_SIZE`). By jax's default, XLA's autotuning results lie
    beside the programs of a GPU.
    """
    option = "jax_compilation_cache_dir"
    chosen = os.environ.get(option.upper()) or getattr(jax.config, option)
    folder = Path(chosen or platformdirs.user_cache_path("hybrid_jax") / "programs")
    jax.config.update(option, str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if not chosen:
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    return folder
