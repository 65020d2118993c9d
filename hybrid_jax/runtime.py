"""What the process is set up with before the first array is made.

No flag of XLA is set, so the user's own `XLA_FLAGS` are all there are. What guides
recommend for one GPU, Triton's matrix products, autotuning and command buffers, is
XLA's default by now, and its latency-hiding scheduler moves collectives, which a single
device has none of. On a CPU, neither a lower `xla_backend_optimization_level` nor
`xla_llvm_disable_expensive_passes` compiles a training step sooner.
"""

import gc
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import jax
import platformdirs

import hybrid_jax

# Of compiled programs: a training step takes 2 to 20 MB, so hundreds are kept.
CACHE_BYTES = 4 << 30
# Allocations between two rounds of Python's garbage collector. Tracing makes millions
# of objects that stay, and by default a quarter of it is looking through them in vain.
COLLECT_EVERY = 200_000


def set_up(compilation_cache: bool) -> None:
    """The compilation cache, and little work for the garbage collector."""
    gc.set_threshold(COLLECT_EVERY)
    jax.config.update("jax_enable_compilation_cache", compilation_cache)
    if compilation_cache:
        use_compilation_cache()


def source_version() -> str:
    """The version of this package, and what its code is."""
    digest = hashlib.sha256()
    root = Path(hybrid_jax.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"{hybrid_jax.__version__} ({digest.hexdigest()[:12]})"


def jit_once(fn: Callable, **options) -> Callable:
    """`jax.jit` for a program that runs once, so that compiling it well costs more.

    A network's initialisation draws from the random generator for every parameter, and
    on a CPU XLA would optimise each draw for seconds.
    """
    if jax.default_backend() == "cpu":
        options["compiler_options"] = {"xla_backend_optimization_level": 0}
    return jax.jit(fn, **options)


def use_compilation_cache() -> Path:
    """Compiled programs outlive the process, in the user's cache folder.

    The least recently used go when it is full. `JAX_COMPILATION_CACHE_DIR`, where it is
    set, names another folder, whose size is the user's to choose
    (`JAX_COMPILATION_CACHE_MAX_SIZE`). Beside the programs of a GPU lies what XLA found
    out by autotuning, as is jax's default.
    """
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    chosen = chosen or jax.config.jax_compilation_cache_dir  # of a user's own program
    folder = Path(chosen or platformdirs.user_cache_path("hybrid_jax") / "programs")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if not chosen:
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)
    return folder
