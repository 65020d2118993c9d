"""Where the processes of a run meet before jax connects them.

jax aborts a process, with a stack of C++, when another one never comes or when two have
the same number. So process 0 first listens at the coordinator's port itself. The others
tell it their numbers there, and it tells all of them whether they are complete.
"""

import contextlib
import re
import select
import socket
import time
from collections.abc import Iterable

from hybrid_jax.errors import UserError

POLL_SECONDS = 0.5  # between two attempts to reach process 0
SPARE_SECONDS = 10  # for an answer to arrive
GREETING = re.compile(rb"hybrid_jax process (\d+) of (\d+)\n")
ANSWER = re.compile(rb"hybrid_jax answers: (.*)\n")
COMPLETE = "complete"
LONGEST = 4096  # bytes of an answer


def meet(coordinator: str, processes: int, process: int, timeout: float) -> None:
    """Wait until all processes of a run are there.

    Afterwards, the port of the coordinator is free again.

    Args:
      coordinator: `host:port` of process 0.
      processes: number of processes of the run.
      process: number of this one, from 0.
      timeout: seconds to wait.

    Raises:
      UserError: the port cannot be opened or reached, a process is missing, two have
        the same number, or they differ in `processes`; in every process that waits.
    """
    host, port = coordinator.rsplit(":", 1)
    if process == 0:
        problem = _gather(_listen(coordinator, int(port)), processes, timeout)
    else:
        greeting = b"hybrid_jax process %d of %d\n" % (process, processes)
        problem = _greet(coordinator, (host.strip("[]"), int(port)), greeting, timeout)
    if problem != COMPLETE:
        raise UserError(problem)


def _listen(coordinator: str, port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--coordinator={coordinator}: port {port} cannot be opened ({error}); "
            "give another port"
        ) from None


def _gather(listener: socket.socket, processes: int, timeout: float) -> str:
    """Wait for the other processes, and answer all; return the answer."""
    end = time.monotonic() + timeout
    numbers: dict[socket.socket, int] = {}  # -1 until a guest has told its own
    answer = ""
    with contextlib.ExitStack() as opened:
        opened.enter_context(listener)
        while not answer:
            missing = {*range(1, processes)} - {*numbers.values()}
            left = end - time.monotonic()
            if not missing:
                answer = COMPLETE
            elif left <= 0:
                answer = _incomplete(missing, processes, timeout)
            else:
                ready, _, _ = select.select([listener, *numbers], [], [], left)
                # The oldest first: one that left may have come again.
                for guest in [guest for guest in numbers if guest in ready]:
                    answer = answer or _hear(guest, numbers, processes)
                if listener in ready:
                    guest = opened.enter_context(listener.accept()[0])
                    guest.setblocking(False)
                    numbers[guest] = -1
        for guest in numbers:
            with contextlib.suppress(OSError):
                guest.sendall(f"hybrid_jax answers: {answer}\n".encode())
    return answer


def _hear(guest: socket.socket, numbers: dict[socket.socket, int], count: int) -> str:
    """Note the number of a guest, or forget one that left; return what is wrong."""
    greeting = b""
    with contextlib.suppress(OSError):
        greeting = guest.recv(LONGEST)
    told = GREETING.fullmatch(greeting)
    if not told:  # it ended, or it is none of our processes
        del numbers[guest]
        guest.close()
        return ""
    number, theirs = int(told[1]), int(told[2])
    if theirs != count:
        return (
            f"process {number} has --processes={theirs}, and process 0 has "
            f"--processes={count}: give all the same"
        )
    if number in numbers.values():
        return f"two processes have --process={number}: give each its own number"
    numbers[guest] = number
    return ""


def _incomplete(missing: Iterable[int], processes: int, timeout: float) -> str:
    absent = [f"--process={number}" for number in sorted(missing)]
    shown = ", ".join(absent[:4]) + (", ..." if len(absent) > 4 else "")
    return (
        f"{processes - len(absent)} of {processes} processes came within {timeout} s, "
        f"without {shown}: start the rest with the same --coordinator, or check "
        "--processes"
    )


def _greet(
    coordinator: str, address: tuple[str, int], greeting: bytes, timeout: float
) -> str:
    """Tell process 0 the number of this one, and return its answer."""
    end = time.monotonic() + timeout
    while True:
        try:
            with socket.create_connection(address, timeout=timeout) as host:
                host.settimeout(timeout + SPARE_SECONDS)
                host.sendall(greeting)
                answer = host.makefile("rb").readline(LONGEST)
            if answer:
                break
            # A tunnel accepts, and closes, before process 0 is there.
            problem = "the connection was closed"
        except UnicodeError:
            raise UserError(
                f"--coordinator={coordinator} is no address: give that of process 0"
            ) from None
        except (OSError, OverflowError) as error:
            problem = str(error)
        if time.monotonic() > end:
            raise UserError(
                f"--coordinator={coordinator} cannot be reached ({problem}): start "
                f"process 0 there within {timeout} s, and check that the port is open"
            )
        time.sleep(POLL_SECONDS)
    told = ANSWER.fullmatch(answer)
    if not told:
        raise UserError(
            f"--coordinator={coordinator} does not wait for processes: the run has "
            "begun without this one, or another program has the port; check --process"
        )
    return told[1].decode()
