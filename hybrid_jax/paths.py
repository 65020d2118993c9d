"""Paths as users write them, and as libraries take them."""

import atexit
import contextlib
import functools
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from hybrid_jax.errors import UserError

PLAIN = re.compile(r"[\w/.+ -]*")  # letters that no library takes for others
REMOTE = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # C:/ is a disk
LINKS = "hybrid_jax-links-"
LOCAL_ONLY = (
    "a path of this machine; mount a bucket (gcsfuse for gs://, mount-s3 or s3fs for "
    "s3://) and give the folder where it is mounted"
)


def is_local(path: str) -> bool:
    """Whether a path is none of a bucket or another service, such as `gs://bucket`."""
    return REMOTE.match(path) is None


def check_local(name: str, path: str) -> None:
    """Refuses a path that is not on this machine.

    Args:
      name: of the flag or argument, such as `--workdir`.
      path: as given.

    Raises:
      UserError: names the way, a mounted bucket.
    """
    if not is_local(path):
        raise UserError(f"{name}={path} is not allowed: {LOCAL_ONLY}")


def expanded(path: str | os.PathLike) -> Path:
    """A path with its `~` replaced, where that names somebody's home folder."""
    return Path(os.path.expanduser(path))


def plain(folder: Path) -> Path:
    """An absolute path of a folder that libraries take letter for letter.

    orbax and TFDS look for files by patterns that begin with the whole path, where
    `[1]` means `1`; tensorstore takes UTF-8 alone, and a backslash for a slash. Such a
    folder is given to them by a symbolic link, which lasts as long as this process. The
    folder itself may be made later.

    Raises:
      UserError: there is nowhere to put a link.
    """
    folder = Path(folder).absolute()
    return folder if _is_plain(folder) else _link(folder)


def given(path: str | os.PathLike) -> Path:
    """The user's own path of what lies at, or below, a path of `plain`."""
    path = Path(path)
    for link in (path, *path.parents):
        if link.parent.name.startswith(LINKS) and link.is_symlink():
            return Path(os.readlink(link)) / path.relative_to(link)
    return path


def in_own_words(text: str) -> str:
    """A text of a library's with the user's own paths in the place of our links."""
    if _links.cache_info().currsize:
        for link in filter(Path.is_symlink, _links().iterdir()):
            text = text.replace(str(link), os.readlink(link))
    return text


def mirror(folder: Path) -> Path:
    """A folder of this process alone, with a link to everything that another holds.

    What is written there leaves the other as it is.

    Raises:
      UserError: as `plain`.
    """
    copy = Path(tempfile.mkdtemp(dir=_links()))
    for entry in Path(folder).absolute().iterdir():
        (copy / entry.name).symlink_to(entry)
    return copy


def remove_links() -> None:
    """Removes what the process would remove at its end, where it ends at once."""
    if _links.cache_info().currsize:
        _remove(_links(), os.getpid())


def _remove(links: Path, owner: int) -> None:
    if os.getpid() == owner:  # not a process that it has forked
        shutil.rmtree(links, ignore_errors=True)


def _is_plain(path: Path) -> bool:
    return PLAIN.fullmatch(str(path)) is not None


def _link(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    link = _links() / name
    with contextlib.suppress(FileExistsError):  # it is asked for again
        link.symlink_to(folder)
    return link


@functools.cache
def _links() -> Path:
    """A folder of this process alone, gone when it ends."""
    for place in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108
        if _is_plain(Path(place)) and os.access(place, os.W_OK | os.X_OK):
            links = Path(tempfile.mkdtemp(prefix=LINKS, dir=place))
            atexit.register(_remove, links, os.getpid())
            return links
    raise UserError(
        "a path with signs such as *?[ needs a folder for temporary files without "
        "them: set TMPDIR to one that you may write to"
    )
