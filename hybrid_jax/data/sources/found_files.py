"""Find image files by paths, folders or patterns, for predictions."""

import collections
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


def left_out_notes(paths: Sequence[str | os.PathLike]) -> tuple[str, ...]:
    """Return notes on what `find_files` leaves out: files, folders, repeated images.

    Args:
      paths: the arguments of `find_files`.

    Raises:
      UserError: a path does not exist, or a folder cannot be listed.
    """
    folders = [path for given in paths for path in _matches(given) if path.is_dir()]
    listings = [list_below(path) for path in folders]
    counts = collections.Counter(_find_all(paths))
    return (
        *others_note([*{file: None for each in listings for file in each.others}]),
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
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not matches:
        raise UserError(f"{escape(given)} matches no file")
    return matches
