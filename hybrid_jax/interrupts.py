"""Signals whose exception Python drops.

Python prints an exception of a callback of the garbage collector and goes on, and jax
has such a callback. A signal that comes meanwhile would not end the program. In the
middle of an import, libraries swallow the exception, or crash.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from hybrid_jax.unraisable import Layer

REPEAT_AFTER = 0.05  # seconds, by when the callback has ended


class Process:
    """This process.

    Attributes:
      runs_one_command: whether it may be ended at once; otherwise it belongs to
        somebody who called this package, such as a notebook.
    """

    runs_one_command = False


@contextlib.contextmanager
def repeat_dropped(
    kind: type[KeyboardInterrupt], find_number: Callable[[], int]
) -> Iterator[None]:
    """Send the signal of a dropped exception again, until the block ends.

    Use it in the main thread.

    Args:
      kind: the exception that the signal raises.
      find_number: returns the number of the signal; called once it was dropped.
    """
    main_thread = threading.get_ident()
    timers: list[threading.Timer] = []

    def repeat(unraisable: "sys.UnraisableHookArgs") -> bool:
        if not issubclass(unraisable.exc_type, kind):
            return False
        # Sent to the thread itself, it ends a wait as well.
        sent = (main_thread, find_number())
        timers.append(threading.Timer(REPEAT_AFTER, signal.pthread_kill, sent))
        timers[-1].start()
        return True

    layer = Layer(repeat)
    try:
        yield
    finally:
        layer.remove()
        for timer in timers:
            timer.cancel()
            timer.join()  # which may be sending


def end_at_once_while_importing(end: Callable[[], None]) -> None:
    """Let Ctrl-C end this process at once where it imports modules.

    Elsewhere, it raises `KeyboardInterrupt` as before. A handler that the caller of
    this process has set stays.

    Args:
      end: ends the process.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_globals.get("__name__") == "importlib._bootstrap":
                end()
            frame = frame.f_back
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, handle)
