"""Claim folders, so that two workers never share one and none waits for a dead one."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".claim"


def try_claim(folder: Path) -> FileLock | None:
    """Claim a folder until the lock is released or this process dies.

    The folder is created if it does not exist. The operating system frees the lock of a
    process that was killed. Machines that share the folder see each other's locks if
    its file system supports that: NFS does, a mounted bucket does not.

    Returns:
      The lock; None if another worker holds it.
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
    """Claim a folder for a `with` block; yield whether this worker got it."""
    lock = try_claim(folder)
    try:
        yield lock is not None
    finally:
        if lock:
            lock.release()


def waiting_lock(folder: Path, name: str = ".lock") -> FileLock:
    """Return a lock that waits for its turn; create its folder if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / name)


class Heartbeats:
    """Detect dead workers on other machines, without comparing clocks.

    A worker increments a count in its trial every `BEAT_SECONDS`, and marks it as its
    own, so that no two workers' counts are equal. If another worker sees the same count
    for `GRACE_SECONDS` by its own clock, the first worker is dead.
    """

    BEAT_SECONDS, GRACE_SECONDS = 15.0, 120.0

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Any, float]] = {}

    def is_silent(self, number: int, beat: Any) -> bool:
        """Return whether the worker of a trial has been silent for `GRACE_SECONDS`.

        Args:
          number: of the trial.
          beat: latest count of its worker.
        """
        now = time.monotonic()
        known, since = self._seen.get(number, (None, now))
        if number not in self._seen or known != beat:
            self._seen[number] = (beat, now)
            return False
        return now - since >= self.GRACE_SECONDS
