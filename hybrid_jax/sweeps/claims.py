"""Claim a folder, so that no two workers work in it, and none waits for a dead one."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".claim"


def try_claim(folder: Path) -> FileLock | None:
    """Claim a folder, made if need be, until the lock is released or this process dies.

    The operating system frees the lock of a process that was killed. Machines that
    share the folder see each other's locks where its file system passes these on, as
    NFS does and a mounted bucket does not.

    Returns:
      The lock; None where another worker holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Claim a folder for a block; yield whether it is this worker's."""
    lock = try_claim(folder)
    try:
        yield lock is not None
    finally:
        if lock:
            lock.release()


def waiting_lock(folder: Path, name: str = ".lock") -> FileLock:
    """Return a lock of a folder, made if need be, that waits for its turn."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / name)


class Heartbeats:
    """Tell dead workers of other machines from living ones, without their clocks.

    A worker counts up in its trial every `BEAT_SECONDS`. A count that stands still for
    `GRACE_SECONDS` by the clock of who looks is that of a dead worker.
    """

    BEAT_SECONDS, GRACE_SECONDS = 15.0, 120.0

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}

    def is_silent(self, number: int, beat: Any) -> bool:
        """Return whether the worker of a trial is dead, as far as was seen."""
        now = time.monotonic()
        known, since = self._seen.get(number, (None, now))
        if number not in self._seen or known != beat:
            self._seen[number] = (beat, now)
            return False
        return now - since >= self.GRACE_SECONDS
