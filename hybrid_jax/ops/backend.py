"""Which of an operation's two forms a program is traced with.

Most operations here have a hand-written form, which is faster on CPUs, and their plain
reference, which accelerators keep.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_plain = contextvars.ContextVar("plain", default=False)


def forms() -> str:
    """Whose forms are traced: a platform's, or `plain` where they were asked for."""
    return "plain" if _plain.get() else jax.default_backend()


def handwritten() -> bool:
    """Whether the hand-written forms are traced: on CPUs, if nobody asked otherwise."""
    return forms() == "cpu"


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
