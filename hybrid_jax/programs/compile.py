"""Trace programs here and compile them in threads, while the host does other work.

Tracing holds Python's lock and compiling does not. A run therefore traces one program
after the other and hands each to a thread. Meanwhile it reads data, restores a
checkpoint and initializes the state.
"""

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import jax

from hybrid_jax.ops.backend import target_backend, target_key
from hybrid_jax.runtime import release_unused_memory

THREADS = 3  # one may wait for another; the compiler starts more of its own
MAX_CACHED_PROGRAMS = 16
# These passes look for values that never change within a loop. The loop over training
# steps holds the whole network; on a CPU, they took an eighth of its compile time.
LOOP_PASSES = (
    "simplify-while-loops",
    "while-loop-invariant-code-motion",
    "while-loop-constant-sinking",
)
CPU_OPTIONS: dict[str, str | bool] = {
    "xla_disable_hlo_passes": ",".join(LOOP_PASSES),
    # A training step needs a tenth less memory than in the order that runs more
    # operations at a time, which is no faster on two cores.
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
}
DISK_CACHE_HIT = "/jax/compilation_cache/cache_hits"


class ProgramCache:
    """An in-memory cache of the programs that a process used last, by key.

    Runs that differ in their data or seed alone, such as those of a sweep, share their
    programs. Threads may use one cache at the same time.
    """

    def __init__(self, capacity: int) -> None:
        """Create an empty cache.

        Args:
          capacity: number of programs; beyond it, the least recently used is dropped.
        """
        self._capacity, self._lock = capacity, threading.Lock()
        self._programs: collections.OrderedDict[
            Hashable, tuple[Any, jax.stages.Compiled]
        ] = collections.OrderedDict()

    def get(self, key: Hashable) -> tuple[Any, jax.stages.Compiled] | None:
        """Return the result shapes and the executable of a program, or None."""
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
            return self._programs.get(key)

    def put(self, key: Hashable, shapes: Any, compiled: jax.stages.Compiled) -> None:
        """Add a program; drop the least recently used one if the cache is full."""
        with self._lock:
            self._programs[key] = shapes, compiled
            while len(self._programs) > self._capacity:
                self._programs.popitem(last=False)

    def clear(self) -> None:
        """Drop all programs, so that the memory of their executables is freed."""
        with self._lock:
            self._programs.clear()


# The only cache of this process, which lives as long as the process.
PROGRAM_CACHE = ProgramCache(MAX_CACHED_PROGRAMS)


@contextlib.contextmanager
def compiler_threads() -> Iterator[Executor]:
    """Yield threads for compiling; cancel pending work when the block ends.

    After a `KeyboardInterrupt`, work that has begun is not waited for.
    """
    threads = ThreadPoolExecutor(THREADS, "compiler")
    interrupted = False
    try:
        yield threads
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        threads.shutdown(wait=not interrupted, cancel_futures=True)


class Program:
    """A function that is compiled for arguments of given shapes.

    Attributes:
      shapes: shapes of its results.
      trace_seconds: time spent on tracing and lowering.
      compile_seconds: time spent on compiling, or on reading from the cache on disk.
      from_disk_cache: whether the executable came from the cache on disk.
      reused: whether it came from `PROGRAM_CACHE`, so nothing was traced.
    """

    def __init__(
        self,
        trace: Callable[..., jax.stages.Traced],
        *shapes: Any,
        key: Hashable = None,
    ) -> None:
        """Trace the function, unless `PROGRAM_CACHE` has its program.

        Nothing is compiled yet: tracing alone gives the shapes of the results.

        Args:
          trace: `trace` of a jitted function, or what `Devices.tracer` returns.
          *shapes: shapes of the arguments.
          key: identifies the function and all that it closes over; None does not cache.
        """
        start = time.perf_counter()
        self.trace_seconds = self.compile_seconds = 0.0
        self.from_disk_cache = False
        self._executable: Future[jax.stages.Compiled] | None = None
        self._on_cpu = target_backend() == "cpu"  # `_compile` runs in another thread
        self._key = None if key is None else (key, _context(), _signature(shapes))
        found = PROGRAM_CACHE.get(self._key)
        self.reused = found is not None
        if found is not None:
            self.shapes, executable = found
            self._executable = Future()
            self._executable.set_result(executable)
        else:
            self._traced = trace(*shapes)
            self.shapes = self._traced.out_info
            self.trace_seconds = time.perf_counter() - start

    def compile(self, threads: Executor) -> "Program":
        """Begin to compile the program in a thread, once, and return the program."""
        if self._executable is not None:
            return self
        start = time.perf_counter()
        lowered = self._traced.lower()
        self.trace_seconds += time.perf_counter() - start
        self._executable = threads.submit(self._compile, lowered)
        return self

    def wait(self) -> jax.stages.Compiled:
        """Return the executable; compile it now if that has not begun."""
        if self._executable is None:
            with compiler_threads() as threads:
                self.compile(threads)
        assert self._executable is not None
        return self._executable.result()

    def __call__(self, *arguments: Any) -> Any:
        """Wait for the compiler, run the program and return its results."""
        return self.wait()(*arguments)

    def _compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        start = time.perf_counter()
        with _disk_cache_hits() as hits:
            compiled = _compile(lowered, self._on_cpu)
        release_unused_memory()
        self.compile_seconds = time.perf_counter() - start
        self.from_disk_cache = bool(hits)
        if self._key is not None:
            PROGRAM_CACHE.put(self._key, self.shapes, compiled)
        return compiled


def _compile(lowered: jax.stages.Lowered, on_cpu: bool) -> jax.stages.Compiled:
    try:
        return lowered.compile(CPU_OPTIONS if on_cpu else None)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()  # this version of XLA lacks an option


@contextlib.contextmanager
def _disk_cache_hits() -> Iterator[list[str]]:
    """Collect the hits of the cache on disk that this thread has inside the block."""
    thread, hits = threading.get_ident(), []

    def listen(event: str, **_: Any) -> None:
        if event == DISK_CACHE_HIT and threading.get_ident() == thread:
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)


def _context() -> Hashable:
    """Return what a trace depends on besides its function and its arguments."""
    names = ("jax_enable_x64", "jax_default_matmul_precision")
    return target_key(), *(getattr(jax.config, name) for name in names)


def _signature(shapes: tuple[Any, ...]) -> Hashable:
    """Return what a program is compiled for: tree, shapes, dtypes, shardings."""
    leaves, tree = jax.tree.flatten(shapes)
    arrays = [(x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves]
    return tree, tuple(arrays)
