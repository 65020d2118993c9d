"""Signals that end a run early: SIGTERM of a scheduler, SIGINT of Ctrl-C, SIGHUP.

The first one asks: the run saves the step it has come to, and ends. Another insists.
Of many hosts, all save the same step, whichever of them got a signal.

A signal that is ignored when the run starts stays ignored, which is how `nohup` keeps
SIGHUP away from it, and a shell script SIGINT from what it starts in the background.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import jax

from hybrid_jax.parallel.distributed import Hosts

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# GNU timeout signals a process, then its group; that is asking once.
ONCE_SECONDS = 0.5
POLL_SECONDS = 0.005  # of a device that may be idle meanwhile


class Interrupted(KeyboardInterrupt):
    """A run has been asked to end.

    Attributes:
      code: the command's exit code, 143 after SIGTERM, 130 after SIGINT and 129 after
        SIGHUP.
      saved: the step that was saved, if any was.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.code, self.saved = 128 + number, None
        self._name = signal.Signals(number).name

    def __str__(self) -> str:
        where = "" if self.saved is None else f" with step {self.saved} saved"
        return f"ended by {self._name}{where}"


class Interruption:
    """A run's signals, from entering the context to leaving it.

    They raise `Interrupted` at once, but inside `held`, where they are noted. Threads
    other than the main one get no signals, and are not interrupted.

    Attributes:
      hosts: that are to end together.
      handled: whether the run is ending by now.
    """

    def __init__(self, hosts: Hosts | None = None):
        self.hosts = hosts or Hosts()
        self._number, self._since = None, 0.0
        self._held = self.handled = False
        self._before, self._terminals = {}, []

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._terminals = [number for number in (1, 2) if os.isatty(number)]
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _receive(self, number: int, _) -> None:
        now = time.monotonic()
        if number == signal.SIGHUP:
            self._leave_terminal()
        if self._number is None:
            self._number, self._since = number, now
            if not self._held:
                self.check()
        elif now - self._since > ONCE_SECONDS:
            os._exit(128 + number)

    def _leave_terminal(self) -> None:
        """Has what is printed go nowhere if the terminal is gone, and not fail."""
        for number in self._terminals:
            if not os.isatty(number):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)

    def check(self) -> None:
        """Raises what was noted, again if somebody's code swallowed it.

        Raises:
          Interrupted: after a signal, unless it was `handled`.
        """
        if self._number is not None and not self.handled:
            raise Interrupted(self._number)

    def agreed(self, count: int, notice: bool = False) -> int:
        """How many steps all hosts dispatch next.

        Args:
          count: as many as this one would.
          notice: whether a cloud has announced the end of the hosts.

        Raises:
          Interrupted: on all hosts, after a signal to any.
        """
        if not self.hosts.is_distributed:
            self.check()
            return count
        if self._number is not None and not self.handled:
            self.hosts.report_signal(self._number)
        if notice:
            self.hosts.report_signal(signal.SIGTERM)
        number, count = self.hosts.broadcast(
            lambda: (self.hosts.reported_signal(), count), barrier=True
        )
        if number is not None:
            raise Interrupted(number)
        return count

    @contextlib.contextmanager
    def held(self, hold: bool = True) -> Iterator[None]:
        """Notes signals inside; or raises them, in a part that can be left anywhere.

        No part can be left by one of many hosts.
        """
        hold = hold or self.hosts.is_distributed
        before, self._held = self._held, hold
        try:
            if not hold:
                self.check()
            yield
        finally:
            self._held = before


def wait(arrays) -> None:
    """Waits for a tree of arrays so that a signal is heard meanwhile."""
    while not all(x.is_ready() for x in jax.tree.leaves(arrays)):
        time.sleep(POLL_SECONDS)
