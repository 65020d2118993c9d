"""Find image files by paths, folders or patterns, for predictions."""

import collections
import fnmatch
import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hybrid_jax.data.sources.folder_listing import (
    list_below,
    others_note,
    system_folders_note,
    upward_links_note,
)
from hybrid_jax.errors import UserError, elide, escape, listed, plural
from hybrid_jax.paths import check_local, expand_user

ANY = "**"  # the part of a pattern that stands for any folders


def find_files(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """Find image files by paths, folders or patterns.

    A folder stands for all images below it, sorted by path. `cells/*.png` is a pattern
    unless a file has this name.

    Raises:
      UserError: a path does not exist, or holds no image.
    """
    found = _find_all(paths)
    if not found:
        raise UserError("no image is named: give files, folders or patterns")
    return [*dict.fromkeys(found)]


def _find_all(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """Return the files of `find_files`, each as often as it is named."""
    found: list[Path] = []
    for given in paths:
        files = [
            file
            for path in _matches(given)
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
    folders = [path for given in paths for path in _matches(given) if path.is_dir()]
    listings = [list_below(path) for path in folders]
    others = {file for each in listings for file in each.others}
    if written:
        others = {file for file in others if not _is_same_file(file, written)}
    bases = {base for given in paths for base in _recursive_bases(expand_user(given))}
    listings += [list_below(base) for base in bases]
    counts = collections.Counter(_find_all(paths))
    return (
        *others_note(sorted(others)),
        *system_folders_note({f for each in listings for f in each.system_folders}),
        *upward_links_note({link for each in listings for link in each.upward_links}),
        *_repeated_note([path for path, count in counts.items() if count > 1]),
    )


def _repeated_note(paths: Sequence[Path]) -> tuple[str, ...]:
    if not paths:
        return ()
    return (
        f"{plural(len(paths), 'image')} named more than once, with one row each: "
        f"{listed([*map(escape, paths)])}",
    )


def _matches(given: str | os.PathLike) -> list[Path]:
    """Return the files and folders of a path or pattern.

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
    matches = _below(path) if ANY in path.parts else map(Path, glob.glob(str(path)))
    if not (matches := sorted(matches)):
        raise UserError(f"{escape(given)} matches no file")
    return matches


def _below(pattern: Path) -> Iterable[Path]:
    """Return the files and folders of a pattern that holds `**`.

    The rules of `list_below` hold for links. `glob` would follow a link to a folder
    above again and again.
    """
    rest = pattern.parts[pattern.parts.index(ANY) :]
    for base in _recursive_bases(pattern):
        if {*rest} == {ANY}:
            yield base
            continue
        listing = list_below(base)
        inside = {file.relative_to(base) for file in listing.images + listing.others}
        folders = {folder for file in inside for folder in file.parents[:-1]}
        yield from (base / path for path in inside | folders if _fits(path.parts, rest))


def _recursive_bases(pattern: Path) -> list[Path]:
    """Return the folders before the first `**` of a pattern; none without it."""
    if ANY not in pattern.parts or os.path.lexists(pattern):
        return []
    before = Path(*pattern.parts[: pattern.parts.index(ANY)])
    return [path for path in map(Path, glob.glob(str(before))) if path.is_dir()]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path fit those of a pattern."""
    if not pattern or not parts:
        return not parts and {*pattern} <= {ANY}
    if pattern[0] == ANY:
        return _fits(parts, pattern[1:]) or _fits(parts[1:], pattern)
    is_hidden = parts[0][0] == "." != pattern[0][0]
    fits = not is_hidden and fnmatch.fnmatchcase(parts[0], pattern[0])
    return fits and _fits(parts[1:], pattern[1:])


def _is_same_file(path: Path, other: str | os.PathLike) -> bool:
    return os.path.realpath(path) == os.path.realpath(expand_user(other))
