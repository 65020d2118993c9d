"""Signals to a run: raised where it can be left, noted where it cannot."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import jax.numpy as jnp
import pytest

from hybrid_jax import interrupts
from hybrid_jax.parallel import signals
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.parallel.signals import Interrupted, Interruption, wait_until_ready


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_what_is_ignored_at_the_start_stays_ignored(number, ignored):
    """As by nohup, and by shell scripts for what they start in the background."""
    ignored(number)
    with Interruption() as run:
        send(number)
        run.check()
    assert signal.getsignal(number) == signal.SIG_IGN
    for other in {*signals.SIGNALS} - {number}:
        with pytest.raises(Interrupted) as error, Interruption():
            send(other)
        assert error.value.code == 128 + other


@pytest.fixture
def ignored():
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield lambda number: signal.signal(number, signal.SIG_IGN)
    for number, handler in before.items():
        signal.signal(number, handler)


# It waits in short parts: a signal that comes just before a system call that blocks is
# handled after the call only, and `signal.pause` waits forever.
IN_A_TERMINAL = """
import sys, time
from hybrid_jax.parallel.signals import Interrupted, Interruption

try:
    with Interruption():
        print("ready", flush=True)
        while True:
            time.sleep(0.01)
except Interrupted as error:
    print("saving", flush=True)
    print(error, file=sys.stderr, flush=True)
    sys.exit(error.code)
"""
# In a process of its own, since one with threads should not fork.
CLOSED = """
import os, pty, sys

child, terminal = pty.fork()
if not child:
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
seen = b""
while b"ready" not in seen:
    seen += os.read(terminal, 1000)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_terminal_that_is_closed_ends_a_run_in_order():
    """It may go on to print, as it saves its step, and the printing does not fail."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, IN_A_TERMINAL],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "129\n", done.stderr


def test_it_is_raised_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="ended by SIGTERM") as error, Interruption():
        send()
    assert error.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    error.value.saved = 7
    assert str(error.value) == "ended by SIGTERM with step 7 saved"


def test_it_is_noted_while_it_is_held():
    done = []
    with Interruption() as run:
        run.check()
        with pytest.raises(Interrupted) as error, run.deferred():
            send(signal.SIGINT)
            done.append("what must not be left")
            run.check()
        with pytest.raises(Interrupted):
            run.check()  # should anyone have swallowed it
        run.handled = True
        run.check()
    assert done
    assert error.value.code == 130


def test_it_is_raised_where_a_part_can_be_left_after_all():
    with Interruption() as run, run.deferred():
        with pytest.raises(Interrupted), run.deferred(False):
            send()
        run.handled = True
        with run.deferred(False):
            pass
    with Interruption() as run, run.deferred():
        send()
        with pytest.raises(Interrupted), run.deferred(False):
            pytest.fail("what was noted is raised before")
        run.handled = True


def test_what_is_deferred_to_the_end_ends_what_follows():
    """Such as the next run of a sweep; the handlers of before are in place again."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), Interruption() as run, run.deferred():
        send()
    assert signal.getsignal(signal.SIGTERM) == before
    with (
        pytest.raises(ValueError, match="other"),
        Interruption() as run,
        run.deferred(),
    ):
        send()
        raise ValueError("other")


def send_in_callback(number):
    """In one of the garbage collector, whose exceptions Python prints and drops."""

    def callback(*_):
        gc.callbacks.remove(callback)
        signal.raise_signal(number)

    gc.callbacks.append(callback)
    gc.collect()


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_it_is_raised_again_if_a_callback_dropped_it(number):
    before = sys.unraisablehook
    with pytest.raises(Interrupted) as error, Interruption() as run:
        send_in_callback(number)
        threading.Event().wait(60)
    assert error.value.code == 128 + number
    assert sys.unraisablehook is before
    run.handled = True
    time.sleep(2 * interrupts.REPEAT_AFTER)  # and not a third time


def test_what_a_callback_dropped_can_be_held_or_checked_for():
    with Interruption() as run:
        send_in_callback(signal.SIGTERM)
        with pytest.raises(Interrupted):
            run.check()
        time.sleep(2 * interrupts.REPEAT_AFTER)  # the repeated one counts as the same
        run.handled = True
    with Interruption() as run, run.deferred():
        with run.deferred(False):
            send_in_callback(signal.SIGTERM)
        time.sleep(2 * interrupts.REPEAT_AFTER)
        with pytest.raises(Interrupted):
            run.check()
        run.handled = True


def test_a_second_signal_ends_the_process(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(interrupts.Process, "runs_one_command", True)
    with Interruption() as run, run.deferred():
        send()
        send()  # as GNU timeout does
        assert codes == []
        monkeypatch.setattr(signals, "REPEAT_SECONDS", -1.0)
        send(signal.SIGINT)
        assert codes == [130]
        run.handled = True


def test_a_second_signal_ends_the_run_alone_in_a_process_of_others(monkeypatch):
    monkeypatch.setattr(os, "_exit", pytest.fail)
    monkeypatch.setattr(signals, "REPEAT_SECONDS", -1.0)
    assert not interrupts.Process.runs_one_command
    with pytest.raises(KeyboardInterrupt), Interruption() as run, run.deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_other_threads_have_no_signals():
    entered = []

    def enter():
        with Interruption() as run:
            run.check()
            entered.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGTERM)]


def test_waiting_ends_with_what_is_waited_for():
    x = jnp.ones(3) + 1
    wait_until_ready({"x": x})
    assert x.is_ready()


def test_no_part_can_be_left_by_one_of_many_hosts():
    """It would save alone, and the others would wait for it."""
    with Interruption(Hosts(1, 2)) as run, run.deferred():
        signal.raise_signal(signal.SIGTERM)
        with run.deferred(False):
            signal.raise_signal(signal.SIGTERM)  # at once, so it is the same
        with pytest.raises(Interrupted):  # it was noted, for all of them to hear
            run.check()
