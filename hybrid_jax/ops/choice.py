"""Which of an operation's two forms a program is traced with.

Every operation here has a hand-written form, which is faster on CPUs, and its plain
reference, which accelerators keep.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_plain = contextvars.ContextVar("plain", default=False)


def handwritten() -> bool:
    """Whether the hand-written forms are traced: on CPUs, if nobody asked otherwise."""
    return jax.default_backend() == "cpu" and not _plain.get()


@contextlib.contextmanager
def plain_operations() -> Iterator[None]:
    """Has references traced everywhere, for who reads a program instead of running it.

    A depthwise convolution then is a convolution, and its products can be counted.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)
