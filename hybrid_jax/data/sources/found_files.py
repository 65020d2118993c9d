"""Find image files by paths, folders or patterns, for predictions."""

import collections
import fnmatch
import functools
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.data.sources.folder_listing import (
    is_system_folder,
    list_below,
    others_note,
    refuse_unlisted,
    system_folders_note,
    upward_links_note,
)
from hybrid_jax.errors import UserError, elide, escape, listed, plural
from hybrid_jax.paths import check_local, expand_user

ANY = "**"  # the part of a pattern that stands for any folders


class Skipped(NamedTuple):
    """What a pattern with `**` does not look into.

    Attributes:
      system_folders: folders of file servers and systems.
      upward_links: links to a folder above.
    """

    system_folders: set[Path]
    upward_links: set[Path]


def find_files(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """Find image files by paths, folders or patterns.

    A folder stands for all images below it, sorted by path. `cells/*.png` is a pattern
    unless a file has this name.

    Raises:
      UserError: a path does not exist, or holds no image.
    """
    skipped = Skipped(set(), set())
    found = _find_all((given, _matches(given, skipped)) for given in paths)
    if not found:
        raise UserError("no image is named: give files, folders or patterns")
    return [*dict.fromkeys(found)]


def _find_all(
    matches: Iterable[tuple[str | os.PathLike, Sequence[Path]]],
) -> list[Path]:
    """Return the files of `find_files`, each as often as it is named.

    Args:
      matches: each path or pattern, with the files and folders that it names.
    """
    found: list[Path] = []
    for given, named in matches:
        files = [
            file
            for path in named
            for file in (list_below(path).images if path.is_dir() else [path])
        ]
        if not files:
            raise UserError(f"{escape(given)} holds no image")
        found += files
    return found


def as_paths(files: Iterable[str | os.PathLike]) -> list[Path]:
    """Return the paths of image files.

    Raises:
      UserError: there is one path instead of a list, or something else than paths.
    """
    if isinstance(files, str | os.PathLike):
        raise one_path_error(files, "paths")
    found = [*files]
    for file in found:
        if not isinstance(file, str | os.PathLike):
            raise UserError(
                f"a path is needed, not {type(file).__name__}: give a list of paths, "
                "or images to run.predict"
            )
    return [*map(Path, found)]


def one_path_error(path: str | os.PathLike, name: str) -> UserError:
    """Return the error for one path in the place of a list, with the way out.

    Args:
      path: of a file or a folder.
      name: name of the list.
    """
    given = os.fspath(path)
    way_out = "give a list of paths"
    if given and expand_user(given).is_dir():
        way_out += (
            "; hybrid_jax.data.sources.found_files.find_files([folder]) lists the "
            "images below it"
        )
    return UserError(f"{name} is one path, {elide(given)!r}: {way_out}")


def left_out_notes(
    paths: Sequence[str | os.PathLike], written: str | os.PathLike = ""
) -> tuple[str, ...]:
    """Return notes on what `find_files` leaves out: files, folders, repeated images.

    Args:
      paths: the arguments of `find_files`.
      written: a file that the program writes, which may be there from before.

    Raises:
      UserError: a path does not exist, or a folder cannot be listed.
    """
    skipped = Skipped(set(), set())
    matches = [(given, _matches(given, skipped)) for given in paths]
    folders = [path for _, named in matches for path in named if path.is_dir()]
    listings = [list_below(path) for path in folders]
    others = {file for each in listings for file in each.others}
    if written:
        others = {file for file in others if not _is_same_file(file, written)}
    for each in listings:
        skipped.system_folders.update(each.system_folders)
        skipped.upward_links.update(each.upward_links)
    counts = collections.Counter(_find_all(matches))
    return (
        *others_note(sorted(others)),
        *system_folders_note(skipped.system_folders),
        *upward_links_note(skipped.upward_links),
        *_repeated_note([path for path, count in counts.items() if count > 1]),
    )


def _repeated_note(paths: Sequence[Path]) -> tuple[str, ...]:
    if not paths:
        return ()
    return (
        f"{plural(len(paths), 'image')} named more than once, with one row each: "
        f"{listed([*map(escape, paths)])}",
    )


def _matches(given: str | os.PathLike, skipped: Skipped) -> list[Path]:
    """Return the files and folders of a path or pattern.

    Args:
      given: the path or pattern.
      skipped: takes what is not looked into.

    Raises:
      UserError: there are none.
    """
    check_local("path", os.fspath(given))
    if not os.fspath(given):
        raise UserError("the path of an image is empty: give a file or a folder")
    path = expand_user(given)
    if os.path.lexists(path):
        return [path]
    if not glob.has_magic(os.fspath(given)):
        raise UserError(f"{escape(given)} does not exist")
    is_recursive = ANY in path.parts
    matches = _below(path, skipped) if is_recursive else map(Path, glob.glob(str(path)))
    if not (matches := sorted(matches)):
        raise UserError(f"{escape(given)} matches no file")
    return matches


def _below(pattern: Path, skipped: Skipped) -> list[Path]:
    """Return the files and folders that a pattern with `**` fits, each once, sorted.

    `glob` would follow a link to a folder above again and again.

    Args:
      pattern: of a path.
      skipped: takes what is not looked into.

    Raises:
      UserError: a folder cannot be listed.
    """
    start, real = pattern.parts.index(ANY), functools.cache(os.path.realpath)
    found: dict[str, Path] = {}
    for base in sorted(glob.glob(str(Path(*pattern.parts[:start])))):
        here = Path(real(base))
        above = frozenset(map(str, (here, *here.parents)))
        fitting = _fitting(base, pattern.parts[start:], above, skipped)
        for path in sorted(map(Path, fitting)):
            is_folder = path.is_dir()
            place = real(path) if is_folder else f"{real(path.parent)}/{path.name}"
            found.setdefault(place, path)
    return sorted(found.values())


def _fitting(
    folder: str, parts: Sequence[str], above: frozenset[str], skipped: Skipped
) -> Iterator[str]:
    """Return what lies in a folder and fits the parts of a pattern.

    Args:
      folder: its path.
      parts: of the pattern, for paths relative to the folder.
      above: real paths of the folder and of those above it.
      skipped: takes what is not looked into.
    """
    first, *rest = parts
    if first == ANY:
        yield from _fitting(folder, rest, above, skipped) if rest else [folder]
        for entry in _entries(folder):
            if entry.name[0] == "." or not entry.is_dir():
                continue
            real = os.path.realpath(entry.path)
            if is_system_folder(entry.name):
                skipped.system_folders.add(Path(real))
            elif real in above:
                skipped.upward_links.add(Path(entry.path))
            else:
                yield from _fitting(entry.path, parts, above | {real}, skipped)
        return
    names = [first]
    if glob.has_magic(first):
        names = fnmatch.filter((entry.name for entry in _entries(folder)), first)
        names = [name for name in names if name[0] != "." or first[0] == "."]
    for name in names:
        path = os.path.join(folder, name)
        if not rest:
            yield from [path] * os.path.lexists(path)
        elif os.path.isdir(path):
            yield from _fitting(path, rest, above, skipped)


def _entries(folder: str) -> list[os.DirEntry]:
    try:
        return list(os.scandir(folder))
    except NotADirectoryError:
        return []
    except OSError as error:
        refuse_unlisted(error)


def _is_same_file(path: Path, other: str | os.PathLike) -> bool:
    return os.path.realpath(path) == os.path.realpath(expand_user(other))
