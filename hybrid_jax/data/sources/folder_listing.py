"""Files and folders in the user's folders: which are images, and which are not."""

import collections
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from hybrid_jax.data.image_io import SUFFIXES, UNSUPPORTED_SUFFIXES
from hybrid_jax.errors import UserError, escape, listed, plural

IMAGE_SUFFIXES = {*SUFFIXES, *UNSUPPORTED_SUFFIXES}
# Folders of file servers, archivers and operating systems.
SYSTEM_FOLDERS = {
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "__macosx",
    "__pycache__",
    "lost+found",
    "system volume information",
}
SYSTEM_FILES = {"desktop.ini", "thumbs.db"}


class Listing(NamedTuple):
    """What lies in a folder and its subfolders.

    Attributes:
      images: image files, sorted by path.
      others: other files, sorted by path.
      system_folders: folders of file servers and systems, which are not listed.
      upward_links: links to a folder above, which are not followed.
    """

    images: list[Path]
    others: list[Path]
    system_folders: set[Path]
    upward_links: set[Path]


def list_below(folder: Path) -> Listing:
    """List the files in a folder and its subfolders; hidden folders are left out.

    A folder that several links lead to is listed once, under its first path. Links to a
    folder above `folder` are not followed: they would add all that lies beside it.

    Raises:
      UserError: one of the folders cannot be listed.
    """
    visited, files, system_folders = set(), list[Path](), set()
    above, upward_links = _folders_above(folder), set()
    for folder_path, folders, names in os.walk(
        folder, followlinks=True, onerror=refuse_unlisted
    ):
        real = os.path.realpath(folder_path)
        if real in visited:
            folders[:] = []
            continue
        visited.add(real)
        visible = [f for f in folders if f[0] != "." and not is_system_folder(f)]
        system_folders |= {Path(folder_path, f) for f in folders if is_system_folder(f)}
        links = {f for f in visible if _leads_to(Path(folder_path, f), above)}
        upward_links |= {Path(folder_path, f) for f in links}
        folders[:] = sorted({*visible} - links)
        files += [Path(folder_path, name) for name in names]
    images = [file for file in sorted(files) if is_image(file)]
    others = sorted({*files}.difference(images))
    return Listing(images, others, system_folders, upward_links)


def _folders_above(folder: Path) -> set[Path]:
    """Return all folders above a folder, by its own path and by where it lies."""
    parent = Path(os.path.realpath(Path(os.path.abspath(folder)).parent))
    return {parent, *parent.parents, *Path(os.path.realpath(folder)).parents}


def _leads_to(path: Path, folders: set[Path]) -> bool:
    """Return whether a path is a link to one of some folders."""
    return path.is_symlink() and Path(os.path.realpath(path)) in folders


def visible_entries(root: Path) -> list[Path]:
    """List the files and folders in a folder that are not hidden, sorted by name.

    Raises:
      UserError: the folder cannot be listed.
    """
    try:
        entries = [entry for entry in root.iterdir() if entry.name[0] != "."]
    except OSError as error:
        refuse_unlisted(error)
    return sorted(entries, key=lambda entry: entry.name)


def visible_files(root: Path) -> list[Path]:
    """List the files in a folder that are not hidden, sorted by name."""
    return [entry for entry in visible_entries(root) if not entry.is_dir()]


def refuse_unlisted(error: OSError) -> NoReturn:
    """Raise a `UserError` for a folder that cannot be listed."""
    raise UserError(
        f"{escape(error.filename)} cannot be listed ({error.strerror}): make it "
        "readable, or move it elsewhere"
    ) from None


def is_image(file: Path) -> bool:
    """Return whether a file is named like an image, or is a dangling link."""
    if file.name.startswith("."):
        return False
    return file.suffix.lower() in IMAGE_SUFFIXES or (
        not file.suffix and is_dangling_link(file)
    )


def is_dangling_link(path: Path) -> bool:
    """Return whether a path is a link to a missing file or folder."""
    return path.is_symlink() and not path.exists()


def is_system_folder(name: str) -> bool:
    """Return whether a folder is one of a file server, an archiver or a system."""
    return name.casefold() in SYSTEM_FOLDERS


def system_folders_note(folders: Iterable[Path]) -> tuple[str, ...]:
    """Return the note on folders of file servers and systems; empty without any."""
    names = collections.Counter(escape(path.name) for path in folders)
    named = ", ".join(f"{n:,} {name}" for name, n in sorted(names.items()))
    return (f"folders of file servers or systems left out: {named}",) if named else ()


def upward_links_note(links: Iterable[Path]) -> tuple[str, ...]:
    """Return the note on links to a folder above; empty if there are none."""
    names = [escape(link) for link in sorted(links)]
    if not names:
        return ()
    return (
        f"{plural(len(names), 'link')} to a folder above left out: {listed(names)}",
    )


def count_by_suffix(files: Iterable[str | os.PathLike]) -> collections.Counter[str]:
    """Count files by suffix, without those that are hidden or that systems create."""
    paths = map(Path, files)
    return collections.Counter(
        path.suffix.lower() or "without a suffix"
        for path in paths
        if path.name[0] != "." and path.name.casefold() not in SYSTEM_FILES
    )


def counts_text(counts: collections.Counter[str]) -> str:
    """Return counts in words, the largest first, such as `5 .txt, 3 .xml`."""
    return listed([f"{count:,} {escape(name)}" for name, count in counts.most_common()])


def others_note(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the note on files that are no images; empty if there are none."""
    counts = count_by_suffix(files)
    if not counts:
        return ()
    count = plural(counts.total(), "other file")
    return (f"{count} left out: {counts_text(counts)}",)
