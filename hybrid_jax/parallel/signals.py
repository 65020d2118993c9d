"""Signals that end a run early: SIGTERM of a scheduler, SIGINT of Ctrl-C, SIGHUP.

After the first signal, the run saves its step and ends. A second signal ends the
process at once. Ctrl-C in a notebook or a script ends the run alone, without saving. If
there are several hosts, all save the same step, whichever of them receives the signal.

A signal that is ignored when the run starts stays ignored. That is how `nohup` keeps
SIGHUP from a run, and how a shell script keeps SIGINT from its background processes.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

from hybrid_jax.interrupts import Process, repeat_dropped
from hybrid_jax.parallel.distributed import Hosts

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# GNU timeout signals a process and then its group; both count as one signal.
REPEAT_SECONDS = 0.5
POLL_SECONDS = 0.005


class Interrupted(KeyboardInterrupt):
    """The exception that a signal raises to end the run.

    Attributes:
      code: exit code of the command: 143 after SIGTERM, 130 after SIGINT, 129 after
        SIGHUP.
      saved: the step that was saved, or None.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number
        self.saved: int | None = None
        self._name = signal.Signals(number).name

    def __str__(self) -> str:
        saved = "" if self.saved is None else f" with step {self.saved} saved"
        return f"ended by {self._name}{saved}"


class Interruption:
    """A context manager that handles signals, and restores the handlers at its end.

    A signal raises `Interrupted` at once, or inside `deferred` at the next `check`.
    Threads other than the main one receive no signals and are not interrupted.

    Attributes:
      hosts: the processes that end together.
      handled: whether the run is ending already, so that `check` raises no more.
    """

    def __init__(self, hosts: Hosts | None = None) -> None:
        self.hosts = hosts or Hosts()
        self.handled = self._deferring = False
        self._number: int | None = None  # of the first signal
        self._received = 0.0
        self._was_dropped = False
        self._dropped = contextlib.ExitStack()
        self._handlers: dict[signal.Signals, Any] = {}
        self._terminals: list[int] = []  # file descriptors

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._terminals = [number for number in (1, 2) if os.isatty(number)]
            self._dropped.enter_context(repeat_dropped(Interrupted, self._drop))
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._dropped.close()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)
        # A signal that was deferred to the end ends what follows, such as more runs.
        if kind is None and not self.hosts.is_distributed:
            self.check()

    def _receive(self, number: int, _: object) -> None:
        now = time.monotonic()
        if number == signal.SIGHUP:
            self._redirect_closed_terminals()
        if self._number is None or self._was_dropped:
            self._number, self._received, self._was_dropped = number, now, False
            if not self._deferring:
                self.check()
        elif now - self._received > REPEAT_SECONDS:
            is_alone = Process.runs_one_command or self.hosts.is_distributed
            if number == signal.SIGINT and not is_alone:
                raise Interrupted(number)
            os._exit(128 + number)

    def _drop(self) -> int:
        """Treat the next signal as the first, and return the number of the dropped."""
        self._was_dropped = True
        return self._number or signal.SIGINT

    def _redirect_closed_terminals(self) -> None:
        """Discard what is printed to a closed terminal, so that printing succeeds."""
        for number in self._terminals:
            if not os.isatty(number):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)

    def check(self) -> None:
        """Raise `Interrupted` for a deferred signal, or again if other code caught it.

        Raises:
          Interrupted: a signal was received, and `handled` is False.
        """
        self._was_dropped = False
        if self._number is not None and not self.handled:
            raise Interrupted(self._number)

    def agree_on_steps(self, count: int, preempted: bool = False) -> int:
        """Return how many steps all hosts dispatch next.

        Args:
          count: number of steps that this host would dispatch.
          preempted: whether the cloud has announced the end of a host.

        Raises:
          Interrupted: on all hosts, after a signal to any of them.
        """
        if not self.hosts.is_distributed:
            self.check()
            return count
        if self._number is not None and not self.handled:
            self.hosts.report_signal(self._number)
        if preempted:
            self.hosts.report_signal(signal.SIGTERM)
        number, count = self.hosts.broadcast(
            lambda: (self.hosts.reported_signal(), count), barrier=True
        )
        if number is not None:
            raise Interrupted(number)
        return count

    @contextlib.contextmanager
    def deferred(self, defer: bool = True) -> Iterator[None]:
        """Defer signals inside the block; `defer=False` raises them in an inner block.

        With several hosts, signals are always deferred: one host cannot leave alone.

        Args:
          defer: whether to defer signals.

        Raises:
          Interrupted: a signal was deferred before, and `defer` is False.
        """
        defer = defer or self.hosts.is_distributed
        before, self._deferring = self._deferring, defer
        try:
            if not defer:
                self.check()
            yield
        finally:
            self._deferring = before


def wait_until_ready(arrays: Any) -> None:
    """Wait for a tree of arrays, and handle signals while waiting."""
    while not all(x.is_ready() for x in jax.tree.leaves(arrays)):
        time.sleep(POLL_SECONDS)
