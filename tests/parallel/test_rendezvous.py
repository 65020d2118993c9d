"""Processes that meet at a port, played by threads."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybrid_jax.errors import UserError
from hybrid_jax.parallel.rendezvous import meet


@pytest.fixture
def coordinator():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def outcomes(coordinator, *processes, timeout=60):
    """What each of them hears, by (number, count, seconds before it comes)."""

    def come(number, count, delay=0.0):
        time.sleep(delay)
        try:
            meet(coordinator, count, number, timeout)
        except UserError as error:
            return str(error)
        return "all are there"

    with ThreadPoolExecutor(len(processes)) as threads:
        return list(threads.map(lambda process: come(*process), processes))


@pytest.mark.parametrize("first", [0, 2])
def test_all_hear_when_all_are_there(coordinator, first):
    """In any order; and the port is free for jax then."""
    came = [(number, 3, 0.3 * (number != first)) for number in range(3)]
    assert outcomes(coordinator, *came) == ["all are there"] * 3
    assert outcomes(coordinator, *came) == ["all are there"] * 3


def test_one_process_waits_for_none(coordinator):
    assert outcomes(coordinator, (0, 1)) == ["all are there"]


def test_all_hear_which_one_is_missing(coordinator):
    why = (
        "2 of 3 processes came within 4 s, without --process=1: start the rest with "
        "the same --coordinator, or check --processes"
    )
    assert outcomes(coordinator, (0, 3), (2, 3), timeout=4) == [why] * 2


def test_two_of_one_number_end_all(coordinator):
    why = "two processes have --process=1: give each its own number"
    heard = outcomes(coordinator, (0, 3), (1, 3), (1, 3))
    assert heard == [why] * 3


def test_other_counts_end_all(coordinator):
    why = (
        "process 1 has --processes=3, and process 0 has --processes=2: "
        "give all the same"
    )
    assert outcomes(coordinator, (0, 2), (1, 3)) == [why] * 2


def visit(coordinator, said):
    """Connect as soon as process 0 is there, say something, and leave."""
    host, port = coordinator.split(":")
    end = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection((host, int(port))) as visitor:
                visitor.sendall(said)
                return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_one_that_leaves_may_come_again_and_strangers_do_not_count(coordinator):
    """A tunnel or a look at the port may connect, and a process may be restarted."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(outcomes, coordinator, (0, 3))
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n", b"hybrid_jax process 1 of 3\n"):
            visit(coordinator, said)
        assert outcomes(coordinator, (1, 3), (2, 3, 0.5)) == ["all are there"] * 2
        assert waiting.result() == ["all are there"]


def test_another_program_at_the_port_is_told():
    """Such as the service of a run that has begun."""
    with socket.create_server(("localhost", 0)) as other:
        port = other.getsockname()[1]

        def answer():
            guest, _ = other.accept()
            with guest:
                guest.recv(100)
                guest.sendall(b"HTTP/1.1 400 Bad Request\n")

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(UserError, match=f":{port} does not wait for processes"):
            meet(f"localhost:{port}", 2, 1, 60)
        answering.join()


def test_what_is_no_host_is_told():
    with pytest.raises(UserError, match=r"--coordinator=a\.\.b:1 is no address"):
        meet("a..b:1", 2, 1, 60)
