"""The lock of a folder, on file systems with and without locks."""

import errno
import fcntl
import os

import pytest

from hybrid_jax.errors import UserError
from hybrid_jax.runs.lock import FILE, RunLock


def failing(code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    return flock


def test_a_lock_is_held_by_one_run(tmp_path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    with pytest.raises(UserError, match=r"in use by another run.*another workdir$"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_marker_that_a_killed_run_left_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOSYS))
    (tmp_path / FILE).write_text("4000000\nanother-machine\n")
    with pytest.raises(UserError, match=rf"if no run is alive, delete .*{FILE}$"):
        RunLock(tmp_path).acquire()


def test_a_file_system_that_cannot_lock_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
    with pytest.raises(UserError, match=r"cannot be locked .*on another file system"):
        RunLock(tmp_path).acquire()
