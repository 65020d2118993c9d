"""Programs traced here and compiled in threads, while the host does something else.

Tracing needs Python's lock and the compiler does not. So a run traces one program after
the other, hands each to a thread, and reads data, restores and initialises meanwhile.
"""

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import jax

from hybrid_jax.ops.backend import target_backend

THREADS = 2  # the compiler starts more of its own
KEPT = 12  # programs of a process


@contextlib.contextmanager
def compiler() -> Iterator[Executor]:
    """Threads for compiling; what has not begun when the block ends never does.

    An interruption does not wait for what has begun.
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
    """A function compiled for arguments of given shapes.

    The latest programs of a process are kept, so that runs that differ in their data or
    their seed alone, as those of a sweep do, trace and compile theirs once.

    Attributes:
      shapes: of what it returns.
      traced: seconds that tracing and lowering took.
      compiled: seconds that the compiler took, or reading from its cache.
      cached: whether it was in the cache.
      kept: whether it was kept from earlier in this process.
    """

    def __init__(self, trace: Callable, *shapes, key: Hashable = None):
        """Traces it; that is all if only the shapes of its results are asked for.

        Args:
          trace: of a jitted function, or of `mesh.Devices.tracer`.
          shapes: of its arguments.
          key: tells the function, and all that it holds, from others; None keeps none.
        """
        start = time.perf_counter()
        self.traced = self.compiled = 0.0
        self.cached = False
        self._key = None if key is None else (key, _setting(), _structure(shapes))
        with _keeping:  # other programs may be on their way there
            found = _kept.get(self._key)
            self.kept = found is not None
            if self.kept:
                _kept.move_to_end(self._key)
        if self.kept:
            self.shapes, compiled = found
            self._compiled = Future()
            self._compiled.set_result(compiled)
        else:
            self._trace = trace(*shapes)
            self.shapes = self._trace.out_info
            self.traced = time.perf_counter() - start

    def compile(self, threads: Executor) -> "Program":
        """Begins to compile it in a thread, and returns it."""
        if self.kept:
            return self
        start = time.perf_counter()
        lowered = self._trace.lower()
        self.traced += time.perf_counter() - start
        self._compiled = threads.submit(self._compile, lowered)
        return self

    def wait(self) -> jax.stages.Compiled:
        """The executable, once it is compiled."""
        return self._compiled.result()

    def __call__(self, *arguments):
        """Its results, once it is compiled."""
        return self.wait()(*arguments)

    def _compile(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        start, hits = time.perf_counter(), _seen.hits
        compiled = lowered.compile()
        self.compiled = time.perf_counter() - start
        self.cached = _seen.hits > hits
        if self._key is not None:
            with _keeping:
                _kept[self._key] = self.shapes, compiled
                while len(_kept) > KEPT:
                    _kept.popitem(last=False)
        return compiled


def _setting() -> Hashable:
    """What a trace depends on beside its function and its arguments."""
    return (
        target_backend(),
        jax.config.jax_enable_x64,
        jax.config.jax_default_matmul_precision,
    )


def _structure(shapes: tuple) -> Hashable:
    """What a program is compiled for: a tree, and shapes, dtypes and places in it."""
    leaves, tree = jax.tree.flatten(shapes)
    described = [(x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves]
    return tree, tuple(described)


# By key and structure, the latest last.
_kept: collections.OrderedDict[Hashable, tuple] = collections.OrderedDict()
_keeping = threading.Lock()


class _Seen(threading.local):
    """How often this thread found a program in the cache."""

    hits = 0


_seen = _Seen()


def _listen(event: str, **_) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _seen.hits += 1


jax.monitoring.register_event_listener(_listen)
