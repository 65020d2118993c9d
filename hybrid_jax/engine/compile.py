"""Programs traced here and compiled in threads, while the host does something else.

Tracing needs Python's lock and the compiler does not. So a run traces one program after
the other, hands each to a thread, and reads data, restores and initialises meanwhile.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import jax

THREADS = 2  # the compiler starts more of its own


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

    Attributes:
      shapes: of what it returns.
      traced: seconds that tracing and lowering took.
      compiled: seconds that the compiler took, or reading from its cache.
      cached: whether it was in the cache.
    """

    def __init__(self, trace: Callable, *shapes):
        """Traces it; that is all if only the shapes of its results are asked for.

        Args:
          trace: of a jitted function, or of `mesh.Devices.tracer`.
          shapes: of its arguments.
        """
        start = time.perf_counter()
        self._trace = trace(*shapes)
        self.shapes = self._trace.out_info
        self.traced = time.perf_counter() - start
        self.compiled, self.cached = 0.0, False

    def compile(self, threads: Executor) -> "Program":
        """Begins to compile it in a thread, and returns it."""
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
        return compiled


class _Seen(threading.local):
    """How often this thread found a program in the cache."""

    hits = 0


_seen = _Seen()


def _listen(event: str, **_) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _seen.hits += 1


jax.monitoring.register_event_listener(_listen)
