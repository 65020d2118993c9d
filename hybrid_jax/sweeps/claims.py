"""Claim a folder, so that no two workers work in it, and none waits for a dead one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".claim"


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Hold a folder, made if need be, until the block ends or this process dies.

    The operating system frees the lock of a process that was killed. Machines that
    share the folder see each other's locks where its file system passes these on, as
    NFS does and a mounted bucket does not.

    Yields:
      Whether the folder is this worker's; otherwise another one holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
