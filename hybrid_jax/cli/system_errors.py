"""Tell an error of the operating system in one line, with a way out."""

import contextlib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable

from hybrid_jax.paths import expand_user, replaced_name

_MAKE_ROOM = "make room on the disk, and run the same command again"
_ELSEWHERE = "give a place that you may read and write"
WAYS_OUT = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EROFS: "give a place where you may write",
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EEXIST: "give another name",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "give one that exists, or make it first",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "give a folder",
    errno.ELOOP: "give a place that is no loop of links",
}
FULL = 1 << 20  # bytes; a disk with fewer of them free is full


def in_words(error: OSError) -> str:
    """Return what went wrong, with the file and a way out where both are known.

    Python does not say which file it could not write to a full disk. Then the folders
    of full disks are named, of those that the command line or a setting leads to.
    """
    text = str(error)
    if error.filename and error.strerror:
        text = f"{error.strerror}: {replaced_name(str(error.filename))}"
    elif error.errno == errno.ENOSPC:
        values = (word.partition("=")[2] or word for word in sys.argv[1:])
        places = (*values, os.curdir, tempfile.gettempdir(), "~")
        text = ": ".join([os.strerror(errno.ENOSPC), *full_disks(places)])
    way_out = WAYS_OUT.get(error.errno or 0)
    return f"{text}: {way_out}" if way_out else text


def full_disks(places: Iterable[str | os.PathLike]) -> list[str]:
    """Return one folder of each full disk that paths lead to; they may not exist."""
    found: dict[int, str] = {}
    for place in places:
        with contextlib.suppress(OSError):  # a disk that does not answer is not named
            path = expand_user(place).absolute()
            folder = next(f for f in (path, *path.parents) if os.path.isdir(f))
            if shutil.disk_usage(folder).free < FULL:
                found.setdefault(os.stat(folder).st_dev, str(folder))
    return [*found.values()]
