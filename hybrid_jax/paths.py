"""Paths as users write them, and paths that libraries read as they are."""

import atexit
import contextlib
import functools
import hashlib
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from hybrid_jax.errors import UserError, escape

PLAIN = re.compile(r"[\w/.+ -]*")  # characters that every library reads as they are
REMOTE = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # but C:/ is a disk
LINKS = "hybrid_jax-links-"
_numbers = itertools.count()  # of the files of `replacing`
LOCAL_ONLY = (
    "a path of this machine; mount a bucket (gcsfuse for gs://, mount-s3 or s3fs for "
    "s3://) and give the folder where it is mounted"
)


def is_local(path: str) -> bool:
    """Return whether a path is of this machine, unlike `gs://bucket`."""
    return REMOTE.match(path) is None


def check_local(name: str, path: str) -> None:
    """Refuse a path that is not on this machine.

    Args:
      name: name of the flag or argument, such as `--workdir`.
      path: the path as the user wrote it.

    Raises:
      UserError: the path is remote; the message says how to mount a bucket.
    """
    if not is_local(path):
        raise UserError(f"{name}={path} is not allowed: {LOCAL_ONLY}")


def check_given(
    name: str, path: str | os.PathLike, what: str = "give a folder"
) -> None:
    """Refuse what is no path, and an empty one, which would be the current folder.

    Args:
      name: name of the flag or argument, such as `--workdir`.
      path: the path as the user wrote it.
      what: what to give, for the message.

    Raises:
      UserError: it is neither text nor a path, or it is empty.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{name}={path!r} is no path: {what}")
    if not os.fspath(path):
        raise UserError(f"{name} is empty: {what}")


def check_folder(name: str, path: str | os.PathLike) -> None:
    """Refuse what `check_given` does, and paths that are not on this machine.

    Args:
      name: name of the flag or argument, such as `--workdir`.
      path: the path as the user wrote it.

    Raises:
      UserError: the path is none, or empty, or remote.
    """
    check_given(name, path)
    check_local(name, os.fspath(path))


def as_texts(name: str, paths: Iterable[str | os.PathLike]) -> list[str]:
    """Return several paths as text.

    Args:
      name: name of the argument.
      paths: the paths; one alone would be taken for its characters.

    Raises:
      UserError: they are one path.
    """
    if isinstance(paths, str | os.PathLike):
        raise UserError(f"{name}={os.fspath(paths)!r} is one path: give a list of them")
    return [os.fspath(path) for path in paths]


def check_given_once(folders: Iterable[str | os.PathLike]) -> None:
    """Refuse runs of which two are one, also under another path.

    Raises:
      UserError: two paths lead to one folder.
    """
    places = set()
    for folder in folders:
        place = expand_user(folder).resolve()
        if place in places:
            raise UserError(f"{escape(folder)} is given twice: give each run once")
        places.add(place)


def nearest_existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def check_parent(path: Path, flag: str) -> None:
    """Refuse to write to a folder that does not exist.

    Args:
      path: the file or folder to write.
      flag: what stands before the path on the command line, such as `--output=`.

    Raises:
      UserError: the folder above it does not exist.
    """
    if not path.parent.is_dir():
        raise UserError(
            f"{flag}{escape(path)} lies in a folder that does not exist: make it"
        )


def check_absent(path: Path, flag: str = "") -> None:
    """Refuse to write over a file or folder that exists, or over a link.

    Args:
      path: the file or folder to write.
      flag: what stands before the path on the command line, such as `--output=`.

    Raises:
      UserError: it exists.
    """
    if os.path.lexists(path):
        raise UserError(f"{flag}{escape(path)} exists: give another name, or remove it")


def wait_for_file(path: Path) -> bool:
    """Wait up to ten seconds for a file that another host writes to a shared folder.

    Network folders may show it late.

    Returns:
      Whether the file exists.
    """
    for _ in range(20):
        if path.exists():
            return True
        time.sleep(0.5)
    return False


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new file beside a path, which replaces it when the block has ended.

    So neither a reader nor a crash sees half of a file, and of several writers the last
    one wins. If the block fails, the path is left as it is.
    """
    own = f"{os.getpid()}-{next(_numbers):x}"
    scratch = path.with_name(f".{path.name}.{own}.tmp")
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def replaced_name(path: str) -> str:
    """Return the path that a file of `replacing` replaces; another path as it is."""
    return re.sub(r"(^|/)\.([^/]+)\.\d+-[\da-f]+\.tmp$", r"\1\2", path)


def expand_user(path: str | os.PathLike) -> Path:
    """Return a path with its `~` replaced by the home folder that it names."""
    return Path(os.path.expanduser(path))


def library_path(folder: Path) -> Path:
    """Return an absolute path to a folder that every library reads correctly.

    orbax and TFDS use the whole path as a pattern, in which `[1]` matches `1`.
    tensorstore reads only UTF-8, reads a backslash as a slash, and refuses `..`, which
    is resolved. For a path with such characters, return a symbolic link to the folder,
    which is removed when this process ends. The folder may be created later.

    Raises:
      UserError: there is no temporary folder that can hold the link.
    """
    folder = Path(folder).absolute()
    folder = folder.resolve() if ".." in folder.parts else folder
    return folder if _is_plain(folder) else _link(folder)


def user_path(path: str | os.PathLike) -> Path:
    """Return the user's path for a path at or below one of `library_path`."""
    path = Path(path)
    for link in (path, *path.parents):
        if link.parent.name.startswith(LINKS) and link.is_symlink():
            return Path(os.readlink(link)) / path.relative_to(link)
    return path


def with_user_paths(text: str) -> str:
    """Replace links of `library_path` in a message by the user's paths."""
    if _links.cache_info().currsize:
        for link in filter(Path.is_symlink, _links().iterdir()):
            text = text.replace(str(link), os.readlink(link))
    return text


def mirror_by_links(folder: Path) -> Path:
    """Return a temporary folder with a link to each entry of another folder.

    Files written to the temporary folder do not change the other folder.

    Raises:
      UserError: there is no temporary folder that can hold links.
    """
    copy = Path(tempfile.mkdtemp(dir=_links()))
    for entry in Path(folder).absolute().iterdir():
        (copy / entry.name).symlink_to(entry)
    return copy


def remove_links() -> None:
    """Remove the links now, before `os._exit`, which runs no exit handlers."""
    if _links.cache_info().currsize:
        _remove(_links(), os.getpid())


def _remove(links: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked process
        shutil.rmtree(links, ignore_errors=True)


def _is_plain(path: Path) -> bool:
    return PLAIN.fullmatch(str(path)) is not None


def _link(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    link = _links() / name
    with contextlib.suppress(FileExistsError):  # the link exists already
        link.symlink_to(folder)
    return link


@functools.cache
def _links() -> Path:
    """Return the folder of all links, which is removed when this process ends."""
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108
    for parent in candidates:
        if _is_plain(Path(parent)) and os.access(parent, os.W_OK | os.X_OK):
            links = Path(tempfile.mkdtemp(prefix=LINKS, dir=parent))
            atexit.register(_remove, links, os.getpid())
            return links
    raise UserError(
        "a path with characters such as *?[ needs a temporary folder whose own path "
        "has none of them: set TMPDIR to such a folder that you may write to"
    )
