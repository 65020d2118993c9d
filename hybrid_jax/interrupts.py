"""Signals whose exception Python drops.

Python prints an exception of a callback of the garbage collector and goes on, and jax
has such a callback. A signal that comes meanwhile would not end the program.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator

REPEAT_AFTER = 0.05  # seconds, by when the callback has ended


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
    before, main_thread = sys.unraisablehook, threading.get_ident()
    timers: list[threading.Timer] = []

    def repeat(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, kind):
            return before(unraisable)
        # Sent to the thread itself, it ends a wait as well.
        sent = (main_thread, find_number())
        timers.append(threading.Timer(REPEAT_AFTER, signal.pthread_kill, sent))
        timers[-1].start()

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        if sys.unraisablehook is repeat:
            sys.unraisablehook = before
        for timer in timers:
            timer.cancel()
            timer.join()  # which may be sending
