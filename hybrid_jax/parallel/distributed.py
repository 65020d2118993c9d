"""The processes of one run on many hosts: how they find each other, and agree.

Every process runs the same program on the same data, so most of their decisions are
equal without communication. Process 0 is the main one: it writes to the workdir, and
broadcasts decisions that could differ, such as the number of steps to dispatch next, or
that a signal ended the run. Broadcasts use the coordination service of
`jax.distributed`, not the devices, so that no process waits for a host that has failed.
"""

import contextlib
import glob
import importlib.util
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from hybrid_jax import runtime
from hybrid_jax.errors import (
    ProcessDied,
    UserError,
    elide,
    first_line,
    is_out_of_memory,
)
from hybrid_jax.parallel.rendezvous import meet

TIMEOUT = 300  # seconds to find each other, since imports take a while
SPARE_SECONDS = 30  # by which jax waits longer than we do
POLL_SECONDS = 2  # between checks whether another process has failed
EXIT_TIMEOUT = 20  # seconds for other processes to hear of a failure
EXIT_SECONDS = 0.2  # that a process may take to exit once it has announced its exit
PREFIX = "hybrid_jax"  # of all keys in the coordination service
EXITED = f"{PREFIX}/exited/"
FAILURES, BROADCASTS, SIGNALS = "failures", "broadcasts", "signals"  # kinds of keys
# Numbers of the runs in this process, which keep the keys of runs apart. Processes
# start the same runs in the same order, so they count alike.
_run_numbers = itertools.count()


class ProcessFailed(UserError):
    """Another process of the run has failed; carries its reason and exit code."""

    def __init__(self, host: str, why: str, code: int):
        super().__init__(f"host {host} has ended: {why}")
        self.code = code


class Hosts:
    """The processes of a run, seen from one of them.

    Attributes:
      process_index: number of this process, from 0.
      process_count: number of processes.
    """

    def __init__(self, process_index: int = 0, process_count: int = 1):
        self.process_index, self.process_count = process_index, process_count
        self._broadcasts = self._deleted = 0
        self._prefix = f"{PREFIX}/{next(_run_numbers)}/" if self.is_distributed else ""

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which writes."""
        return self.process_index == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there is more than one process."""
        return self.process_count > 1

    def broadcast(self, compute: Callable[[], Any], barrier: bool = False) -> Any:
        """Return a value of the main process; all processes call in the same order.

        Args:
          compute: called by the main process alone; its result must be fit for JSON.
          barrier: whether to wait first until all processes have called. Devices time
            out if one waits long for another.

        Raises:
          ProcessFailed: another process failed.
        """
        if not self.is_distributed:
            return compute()
        number = self._broadcasts
        self._broadcasts += 1
        key = self._key(BROADCASTS, f"{number}/")
        if not self.is_main:
            if barrier:
                _service().key_value_set(f"{key}{self.process_index}", "here")
            return json.loads(self._wait_for(f"{key}value"))
        if barrier:
            for other in range(1, self.process_count):
                self._wait_for(f"{key}{other}")
            while self._deleted < number:  # every process has read these
                _service().key_value_delete(self._key(BROADCASTS, f"{self._deleted}/"))
                self._deleted += 1
        value = compute()
        _service().key_value_set(f"{key}value", json.dumps(value))
        return value

    def barrier(self) -> None:
        """Wait until all processes have called."""
        self.broadcast(lambda: None, barrier=True)

    @contextlib.contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the enclosed code in the main process first, then in the others."""
        if not self.is_main:
            self.broadcast(lambda: True)
        yield
        if self.is_main:
            self.broadcast(lambda: True)

    def check_equal(self, topic: str, facts: Callable[[], dict]) -> None:
        """Refuse facts that differ between hosts.

        Args:
          topic: subject of the facts, in a word.
          facts: returns facts by name, fit for JSON; called if there are other hosts.

        Raises:
          UserError: names what differs, and where; on every host.
        """
        if not self.is_distributed:
            return
        key = self._key(topic)
        _service().key_value_set(f"{key}{self.process_index}", json.dumps(facts()))
        first, *others = (
            json.loads(self._wait_for(f"{key}{number}"))
            for number in range(self.process_count)
        )
        for number, other in enumerate(others, 1):
            differing = [
                f"{name} is {elide(other.get(name))} there and "
                f"{elide(first.get(name))} on host 0"
                for name in {**first, **other}
                if other.get(name) != first.get(name)
            ]
            if differing:
                raise UserError(
                    f"host {number} has another {topic}: {'; '.join(differing)}. Start "
                    f"all hosts with the same {topic}"
                )

    def report_signal(self, number: int) -> None:
        """Report a signal that this process received to the main process."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # reported before
            _service().key_value_set(
                self._key(SIGNALS, self.process_index), str(number)
            )

    def reported_signal(self) -> int | None:
        """Return a signal that any process reported, or None; for the main process."""
        signals = _service().key_value_dir_get(self._key(SIGNALS))
        return next((int(number) for _, number in signals), None)

    def max(self, value: float) -> float:
        """Return the largest value of all hosts; not finite if one is not."""
        if not self.is_distributed:
            return value
        from jax.experimental.multihost_utils import process_allgather

        return float(np.max(process_allgather(np.float32(value))))

    @contextlib.contextmanager
    def fail_together(self) -> Iterator[None]:
        """End all processes when one fails inside, with its exit code and message.

        Raises:
          ProcessFailed: another process failed.
          ProcessDied: another process died.
        """
        if not self.is_distributed:
            yield
            return
        try:
            yield
        except (ProcessFailed, ProcessDied):  # the process that failed tells the others
            raise
        except jax.errors.JaxRuntimeError as error:
            if is_out_of_memory(error):
                self._report_failure(error)
                raise
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._raise_failure()
            raise ProcessDied(
                f"another process of the run has died ({first_line(error)}): run the "
                "same command on all hosts to resume"
            ) from None
        except BaseException as error:
            self._report_failure(error)
            raise

    def _key(self, kind: str, name: object = "") -> str:
        """Return a key of this run in the coordination service."""
        return f"{self._prefix}{kind}/{name}"

    def _report_failure(self, error: BaseException) -> None:
        worded = isinstance(error, (UserError, KeyboardInterrupt))
        why = str(error) if worded else first_line(error)
        failure = {"code": getattr(error, "code", 1), "why": why}
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # reported before
            _service().key_value_set(
                self._key(FAILURES, self.process_index), json.dumps(failure)
            )

    def _wait_for(self, key: str) -> str:
        """Return the value of a key, once a process has set it."""
        while True:
            try:
                return _service().blocking_key_value_get(key, POLL_SECONDS * 1000)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
            self._raise_failure()

    def _raise_failure(self) -> None:
        for key, failure in _service().key_value_dir_get(self._key(FAILURES)):
            raise ProcessFailed(key.rsplit("/")[-1], **json.loads(failure))


def initialize(coordinator: str = "", processes: int = 0, process: int = 0) -> Hosts:
    """Connect to the other processes of this run, if there are any.

    On TPU VMs, and in a Slurm step of several tasks, no argument is needed.

    Args:
      coordinator: `host:port` of process 0; empty to detect it.
      processes: number of processes of the run.
      process: number of this one, from 0.

    Returns:
      This process among those of the run.

    Raises:
      UserError: the other processes cannot be reached, or do not go together (see
        `rendezvous.meet`).
    """
    if not coordinator and not _may_be_cluster():
        return Hosts()
    if coordinator or _is_cluster():
        print("waiting for the other processes of the run", file=sys.stderr, flush=True)
    if coordinator:
        meet(coordinator, processes, process, TIMEOUT)
    # jax aborts at its own timeout, which nothing can catch.
    watchdog = threading.Timer(TIMEOUT, _give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator or None,
            num_processes=processes if coordinator else None,
            process_id=process if coordinator else None,
            initialization_timeout=TIMEOUT + SPARE_SECONDS,
            shutdown_timeout_seconds=30,
        )
    except (RuntimeError, ValueError, OSError) as error:
        if not coordinator and not _is_cluster():
            return Hosts()  # one TPU VM without a description of others, as in Colab
        where = f"--coordinator={coordinator}"
        where = where if coordinator else "the run's other processes"
        raise UserError(
            f"{where} cannot be reached ({first_line(error)}): start all processes "
            f"within {TIMEOUT} s, and check that the port is open"
        ) from None
    finally:
        watchdog.cancel()
    return this_process()


def this_process() -> Hosts:
    """Return this process among those of `jax.distributed`, for a new run.

    Every process calls this equally often, since each run has its own keys.

    Raises:
      UserError: see `check_device`.
    """
    runtime.check_device()
    return Hosts(jax.process_index(), jax.process_count())


def wait_for_exits() -> bool:
    """Wait until the other processes have heard of a failure, before this one ends.

    The main process is the last to end, since it runs the coordination service. No
    process waits for one that has already died.

    Returns:
      Whether there are other processes.
    """
    from jax._src.distributed import global_state

    others = (global_state.num_processes or 1) - 1
    if _service() is None or not others:
        return False
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        if global_state.process_id != 0:
            _service().key_value_set(f"{EXITED}{global_state.process_id}", "")
            return True
        end = time.monotonic() + EXIT_TIMEOUT
        while time.monotonic() < end:
            if len(_service().key_value_dir_get(EXITED)) == others:
                time.sleep(EXIT_SECONDS)
                break
            time.sleep(POLL_SECONDS / 20)
    return True


def _give_up() -> None:
    """End this process with a message, before jax aborts it without one."""
    print(
        f"hybrid-jax: not all processes of the run came within {TIMEOUT} s: start all "
        "of them at once, and look for one that has ended",
        file=sys.stderr,
        flush=True,
    )
    os._exit(UserError.code)


def _may_be_cluster() -> bool:
    """Return whether this may be one of several processes that find each other."""
    tpu = importlib.util.find_spec("libtpu") and (
        glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    )
    return bool(tpu) or _is_cluster()


def _is_cluster() -> bool:
    """Return whether environment variables name several processes."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    slurm = "SLURM_PROCID" in os.environ and tasks.isdigit() and int(tasks) > 1
    return slurm or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def _service() -> Any:
    """Return the key-value store of `jax.distributed`, which has no public name."""
    from jax._src.distributed import global_state

    return global_state.client
