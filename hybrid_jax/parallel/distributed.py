"""Processes of one run, on as many hosts: how they find each other, and agree.

Every process runs the same program on the same data, so most of what they do is equal
without a word. Process 0 leads: it writes to the workdir, and says what could differ,
such as how many steps to dispatch next, or that a signal ended the run. What it says
goes through the coordination service of `jax.distributed`, not through the devices, so
that nobody waits for a host that has failed.
"""

import contextlib
import glob
import importlib.util
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from hybrid_jax.errors import Gone, UserError, first_line, short

SECONDS = 300  # to find each other, for imports take a while
POLL_SECONDS = 2  # between looks at whether another process has failed
LEAVE_SECONDS = 20  # for who has to hear of a failure
LAST_SECONDS = 0.2  # for who has said that it ends, to end
FAILED, LEFT, ROUNDS, SIGNALS = "failed", "left", "rounds", "signals"  # kinds of keys
# Processes count their runs alike, since each leaves the others keys of its own.
_numbers = itertools.count()


class Failed(UserError):
    """Another process has failed, for a reason and with a code of its own."""

    def __init__(self, host: str, why: str, code: int):
        super().__init__(f"host {host} has ended: {why}")
        self.code = code


class Hosts:
    """The processes of a run, seen from one of them.

    Attributes:
      number: of this one.
      count: of all.
    """

    def __init__(self, number: int = 0, count: int = 1):
        self.number, self.count = number, count
        self._round = self._forgotten = 0  # of what was told
        self._keys = f"hybrid_jax/{next(_numbers)}/" if count > 1 else ""

    @property
    def lead(self) -> bool:
        """Whether this process leads, and writes."""
        return self.number == 0

    @property
    def many(self) -> bool:
        """Whether there are others."""
        return self.count > 1

    def told(self, say: Callable[[], object], together: bool = False):
        """What the leading process says, fit for JSON; all ask in the same order.

        Args:
          say: asked by the leading process alone.
          together: once all of them have come this far. Devices give up on each other
            if one is kept waiting for long.

        Raises:
          Failed: another process did.
        """
        if not self.many:
            return say()
        number = self._round
        self._round += 1
        key = self._key(ROUNDS, f"{number}/")
        if not self.lead:
            if together:
                _service().key_value_set(f"{key}{self.number}", "here")
            return json.loads(self._awaited(f"{key}said"))
        if together:
            for other in range(1, self.count):
                self._awaited(f"{key}{other}")
            while self._forgotten < number:  # what everybody has heard
                _service().key_value_delete(self._key(ROUNDS, f"{self._forgotten}/"))
                self._forgotten += 1
        said = say()
        _service().key_value_set(f"{key}said", json.dumps(said))
        return said

    def meet(self) -> None:
        """Waits until all processes have come this far."""
        self.told(lambda: None, together=True)

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """Inside, the others come after the leading process, and find its work done."""
        if not self.lead:
            self.told(lambda: True)
        yield
        if self.lead:
            self.told(lambda: True)

    def agree(self, on: str, facts_of: Callable[[], dict]) -> None:
        """Compares what should be equal on all hosts.

        Args:
          on: what this is about, in a word.
          facts_of: gives facts by name, fit for JSON; asked if there are others.

        Raises:
          UserError: names what differs, and where; on every host.
        """
        if not self.many:
            return
        key = self._key(on)
        _service().key_value_set(f"{key}{self.number}", json.dumps(facts_of()))
        theirs = [
            json.loads(self._awaited(f"{key}{number}")) for number in range(self.count)
        ]
        for number, other in enumerate(theirs[1:], 1):
            differing = [
                f"{name} is {short(other.get(name))} there and "
                f"{short(theirs[0].get(name))} on host 0"
                for name in {**theirs[0], **other}
                if other.get(name) != theirs[0].get(name)
            ]
            if differing:
                raise UserError(
                    f"host {number} has another {on}: {'; '.join(differing)}. Start "
                    "all hosts with the same"
                )

    def signal(self, number: int) -> None:
        """Has the leading process hear of a signal that this one got."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # it is told already
            _service().key_value_set(self._key(SIGNALS, self.number), str(number))

    def signalled(self) -> int | None:
        """A signal that any process got, or None; for the leading one to say."""
        return next(
            (int(n) for _, n in _service().key_value_dir_get(self._key(SIGNALS))), None
        )

    def largest(self, value: float) -> float:
        """The largest of all hosts' values, not finite if one of them is not."""
        if not self.many:
            return value
        from jax.experimental.multihost_utils import process_allgather

        return float(np.max(process_allgather(np.float32(value))))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Has all processes end when one fails inside, with its code and its words.

        Raises:
          Failed: another process did.
          Gone: another process died.
        """
        if not self.many:
            yield
            return
        try:
            yield
        except (Failed, Gone):  # which others hear of from whom it is about
            raise
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                self._tell_failure(error)
                raise
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._raise_failure()
            raise Gone(
                f"another process of the run is gone ({first_line(error)}): start the "
                "same command on all hosts to resume"
            ) from None
        except BaseException as error:
            self._tell_failure(error)
            raise

    def leave(self) -> None:
        """Before a failed process ends: the leading one is the last to.

        It keeps the service that the others learn from, and no shutdown waits for who
        is gone already.
        """
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            if not self.lead:
                _service().key_value_set(self._key(LEFT, self.number), "")
                return
            end = time.monotonic() + LEAVE_SECONDS
            while time.monotonic() < end:
                if len(_service().key_value_dir_get(self._key(LEFT))) == self.count - 1:
                    time.sleep(LAST_SECONDS)
                    return
                time.sleep(POLL_SECONDS / 20)

    def _key(self, kind: str, name: object = "") -> str:
        """A key of this run in the coordination service."""
        return f"{self._keys}{kind}/{name}"

    def _tell_failure(self, error: BaseException) -> None:
        ours = isinstance(error, (UserError, KeyboardInterrupt))
        why = str(error) if ours else first_line(error)
        failure = {"code": getattr(error, "code", 1), "why": why}
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # it is told already
            _service().key_value_set(
                self._key(FAILED, self.number), json.dumps(failure)
            )

    def _awaited(self, key: str) -> str:
        """A value, once a process has set it."""
        while True:
            try:
                return _service().blocking_key_value_get(key, POLL_SECONDS * 1000)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
            self._raise_failure()

    def _raise_failure(self) -> None:
        for key, told in _service().key_value_dir_get(self._key(FAILED)):
            raise Failed(key.rsplit("/")[-1], **json.loads(told))


def join(coordinator: str = "", processes: int = 0, process: int = 0) -> Hosts:
    """Finds the other processes of this run, where there are any.

    On TPU VMs, and in a Slurm step of several tasks, nothing need be given.

    Args:
      coordinator: `host:port` of process 0; empty to find it out.
      processes: of the run.
      process: this one, from 0.

    Raises:
      UserError: they cannot be reached.
    """
    given = (coordinator, processes, process) if coordinator else ()
    if not given and not _in_cluster():
        return Hosts()
    if given or _surely_many():
        print("waiting for the other processes of the run", flush=True)
    if given:
        _check_coordinator(coordinator, process)
    try:
        jax.distributed.initialize(
            *given, initialization_timeout=SECONDS, shutdown_timeout_seconds=30
        )
    except (RuntimeError, ValueError, OSError) as error:
        if not given and not _surely_many():
            return Hosts()  # one TPU VM that knows nothing of others, as in Colab
        where = f"--coordinator={coordinator}" if given else "the run's other processes"
        raise UserError(
            f"{where} cannot be reached ({first_line(error)}): start all of them in "
            f"{SECONDS} s, and check that the port is open"
        ) from None
    _joined.append(this_process())
    return _joined[-1]


def this_process() -> Hosts:
    """This process among those of `jax.distributed`, for a new run.

    Every process calls this as often, since each run has keys of its own.
    """
    return Hosts(jax.process_index(), jax.process_count())


def _check_coordinator(coordinator: str, process: int) -> None:
    """Refuses an address at which jax would end the process without a word of ours."""
    host, port = coordinator.rsplit(":", 1)
    if process == 0:
        try:
            socket.create_server(("", int(port))).close()
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--coordinator={coordinator}: port {port} cannot be had ({error}); "
                "give another"
            ) from None
        return
    end = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=SECONDS).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > end:
                raise UserError(
                    f"--coordinator={coordinator} cannot be reached ({error}): start "
                    f"process 0 there in {SECONDS} s, and check that the port is open"
                ) from None
        time.sleep(POLL_SECONDS / 4)


_joined: list[Hosts] = []


def leave() -> bool:
    """Leaves the others of the run that this process has joined; whether it has any."""
    many = [hosts for hosts in _joined if hosts.many]
    for hosts in many:
        hosts.leave()
    return bool(many)


def _in_cluster() -> bool:
    """Whether this may be one of several processes that can find each other."""
    tpu = importlib.util.find_spec("libtpu") and (
        glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    )
    return bool(tpu) or _surely_many()


def _surely_many() -> bool:
    slurm = "SLURM_PROCID" in os.environ and _number("SLURM_STEP_NUM_TASKS") > 1
    return slurm or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else 0


def _service():
    """The key-value store of `jax.distributed`, which has no public name."""
    from jax._src.distributed import global_state

    return global_state.client
