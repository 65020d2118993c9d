"""The implementation of an operation that a program is traced with.

Most operations here have an optimized implementation, which is faster on CPUs, and a
reference, which accelerators use.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_reference = contextvars.ContextVar("reference_implementations", default=False)


def target_backend() -> str:
    """Return the platform whose implementations are traced, or `reference`."""
    return "reference" if _reference.get() else jax.default_backend()


def use_cpu_implementations() -> bool:
    """Return whether implementations that are optimized for CPUs are traced."""
    return target_backend() == "cpu"


@contextlib.contextmanager
def reference_implementations() -> Iterator[None]:
    """Trace references in the enclosed code, to read a program instead of running it.

    A depthwise convolution is then a convolution, and its products can be counted.
    """
    token = _reference.set(True)
    try:
        yield
    finally:
        _reference.reset(token)
