"""The lock of a run's folder, which is free as soon as its process ends."""

import errno
import fcntl
import os
from pathlib import Path

from filelock import FileLock, Timeout

from hybrid_jax.errors import UserError
from hybrid_jax.paths import nearest_existing

FILE = ".lock"


class RunLock:
    """A lock on a folder that need not exist yet."""

    def __init__(self, folder: Path) -> None:
        """Prepare the lock; nothing is written."""
        self._folder = folder
        self._lock = FileLock(folder / FILE, blocking=False)

    def check_writable(self) -> None:
        """Check that the user may write to the folder, or create it.

        Raises:
          UserError: names what is read-only.
        """
        there = nearest_existing(self._folder)
        effective = os.access in os.supports_effective_ids
        may = os.access(there, os.W_OK | os.X_OK, effective_ids=effective)
        if there.is_dir() and not may:
            raise UserError(
                f"--workdir={self._folder} cannot be written to: you may not write to "
                f"{there}; give a folder of yours"
            )

    def acquire(self) -> None:
        """Lock the folder, which exists; a lock that is held stays held.

        Raises:
          UserError: another run holds it, or the file system has no locks.
        """
        try:
            self._lock.acquire()
        except Timeout:
            file = self._folder / FILE
            stale = f"; if no run is alive, delete {file}" if _is_marker(file) else ""
            raise UserError(
                f"--workdir={self._folder} is in use by another run: wait for its end, "
                f"or give another workdir{stale}"
            ) from None
        except OSError as error:
            raise UserError(
                f"--workdir={self._folder} cannot be locked ({error.strerror}): give a "
                "folder on another file system"
            ) from None

    def release(self) -> None:
        """Release the lock, however often it was acquired."""
        self._lock.release(force=True)


def _is_marker(file: Path) -> bool:
    """Return whether a file locks by its existence, on a file system without locks.

    Then it outlives a process that was killed, if that ran on another machine.
    """
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.ENOSYS
    return False
