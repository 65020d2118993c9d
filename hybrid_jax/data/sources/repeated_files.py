"""Files that a table, a folder or a list has twice, by two names or through links."""

import os
from collections.abc import Iterable
from pathlib import Path

from hybrid_jax.errors import UserError, escape, plural


def refuse_repeated(
    path: Path | str, rows: Iterable[tuple[Path, str, bool]]
) -> tuple[str, ...]:
    """Refuse files that are there twice, or return a note on them if they do no harm.

    A file may be repeated within a split of which no part is drawn for another split.

    Args:
      path: the table or the folder, for messages; or the name of a list.
      rows: file, class and split in words, and whether a part of this split is drawn
        for another.

    Raises:
      UserError: a file is in two splits or classes, or its rows could be parted. Names
        the first such file.
    """
    real_paths, again = _RealPaths(), 0
    first = dict[str, tuple[Path, str]]()
    for file, here, is_drawn in rows:
        real = real_paths.of(file)
        if real not in first:
            first[real] = file, here
            continue
        again += 1
        other, there = first[real]
        if is_drawn or here != there:
            alias = f" (also called {escape(other)})" if file != other else ""
            drawn = f"{here}, of which a part is drawn for another split"
            where = drawn if here == there else f"{there} and {here}"
            raise UserError(
                f"{escape(path)}: {escape(file)}{alias} {_told(path, where)}"
            )
    if not again:
        return ()
    if _is_folder(path):
        verb = "is a link" if again == 1 else "are links"
        return (f"{plural(again, 'image')} {verb} to another image of the same class",)
    verb = "names" if again == 1 else "name"
    return (f"{plural(again, 'row')} {verb} an image that another row names too",)


def _is_folder(path: Path | str) -> bool:
    return isinstance(path, Path) and path.is_dir()


def _told(path: Path | str, where: str) -> str:
    """Return what is wrong with a repeated file, and the way out."""
    if isinstance(path, str):
        return f"is listed twice, {where}: list each image once"
    if _is_folder(path):
        return (
            f"is there twice, through a link, {where}: remove the link, or one of two "
            "links"
        )
    return (
        f"is named twice, {where}: name each image once (`hybrid-jax inspect` lists "
        "all of them)"
    )


class _RealPaths:
    """Paths without links; a folder is looked up once for all of its files."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def of(self, file: Path) -> str:
        """Return where a file lies; a link to a missing file counts as a file."""
        if os.path.islink(file) and os.path.exists(file):
            return os.path.realpath(file)
        folder, name = os.path.split(file)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)
