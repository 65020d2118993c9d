"""Settings of the process, made before the first array.

No XLA flag is set here. Guides recommend Triton's matrix products, autotuning and
command buffers for one GPU, but these are XLA's defaults by now. The latency-hiding
scheduler moves collectives, which a single device does not have. On a CPU, neither a
lower `xla_backend_optimization_level` nor `xla_llvm_disable_expensive_passes` shortens
the compilation of a training step; the settings that do are in `programs.compile` and
`cli.common`.
"""

import ctypes
import gc
import hashlib
import os
import platform
import resource
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import platformdirs

import hybrid_jax
from hybrid_jax.errors import UserError, escape, first_line

# A compiled training step takes 2 to 20 MB, so the cache holds hundreds of them.
CACHE_BYTES = 4 << 30
# Allocations between two runs of Python's garbage collector. Tracing creates millions
# of objects that stay; by default, the collector takes a quarter of its time.
GC_THRESHOLD = 200_000
# Packages whose versions are recorded in a run's folder.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "pillow")


def set_up(compilation_cache: bool) -> None:
    """Set up the compilation cache, and collect garbage less often.

    Raises:
      UserError: see `check_device`.
    """
    gc.set_threshold(GC_THRESHOLD)
    check_device()
    jax.config.update("jax_enable_compilation_cache", compilation_cache)
    if compilation_cache:
        use_compilation_cache()


def check_device() -> None:
    """Refuse to go on without a device, before jax is asked for an array.

    Raises:
      UserError: there is no device of the platform that `JAX_PLATFORMS` names.
    """
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:  # jax asserts that CUDA is there
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"jax finds no device for JAX_PLATFORMS={escape(asked)} "
            f"({first_line(error)}): unset that variable, or "
            "install the extra gpu or tpu of hybrid_jax"
        ) from None


def source_version() -> str:
    """Return the package's version and a digest of its code.

    The digest leaves out `configs/`, which only a wheel has inside the package.
    """
    digest = hashlib.sha256()
    root = Path(hybrid_jax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith("configs/"):
            digest.update(name.encode() + path.read_bytes())
    return f"{hybrid_jax.__version__} ({digest.hexdigest()[:12]})"


def environment() -> dict[str, str]:
    """Return the versions and devices of this process as text, by name."""
    found = {"hybrid_jax": source_version(), "Python": sys.version.split()[0]}
    found |= {name: metadata.version(name) for name in PACKAGES}
    devices = jax.devices()
    found["devices"] = f"{len(devices)} x {devices[0].device_kind}"
    return found | {"platform": platform.platform()}


def peak_memory(device: jax.Device) -> tuple[int, str]:
    """Return the peak memory of a device, or of the process.

    JAX does not count the memory of a CPU. There, the peak is that of the whole
    process, Python included.

    Returns:
      The peak in bytes, and its owner: `device` or `process`.
    """
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return (_process_peak_bytes(), "process") if peak is None else (peak, "device")


class PlannedMemory(NamedTuple):
    """The memory of a device that XLA planned for a program, in bytes.

    Attributes:
      arguments: bytes of the arguments.
      results: bytes of the results, except those that reuse the memory of arguments.
      temporary: bytes that are needed only while the program runs.
    """

    arguments: int
    results: int
    temporary: int

    @property
    def resident(self) -> int:
        """Return the bytes that are also needed before or after the program runs."""
        return self.arguments + self.results


def planned_memory(program: jax.stages.Compiled) -> PlannedMemory | None:
    """Return the memory that XLA planned for a program; None if it does not say."""
    plan = program.memory_analysis()
    return plan and PlannedMemory(
        plan.argument_size_in_bytes,
        plan.output_size_in_bytes - plan.alias_size_in_bytes,
        plan.temp_size_in_bytes,
    )


def release_unused_memory() -> None:
    """Return freed memory to the operating system, if the C library can.

    Compiling leaves half a gigabyte of it, in pieces too small for a step's arrays.
    """
    trim = (
        getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    )
    if trim:
        trim(0)


def _process_peak_bytes() -> int:
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
    (`JAX_COMPILATION_CACHE_MAX_SIZE`). By default, jax stores the results of XLA's
    autotuning for a GPU beside its programs.
    """
    option = "jax_compilation_cache_dir"
    chosen = os.environ.get(option.upper()) or getattr(jax.config, option)
    folder = Path(chosen or platformdirs.user_cache_path("hybrid_jax") / "programs")
    jax.config.update(option, str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if not chosen:
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    return folder
