"""Images that the user leaves out by name: a list in a text file or a table.

FILE.txt               a path a line; a line that begins with # and a space is a comment
FILE.csv or FILE.tsv   the column path, as the inspection's near_copies.csv has it

Paths of the user's images are relative to `config.data.path`, or to the folder of the
table there; those of listed files are as they are listed. They may also be as tables of
predictions have them: absolute, or relative to the current folder. `train/123` is image
123 of a prepared set's training split. A folder stands for everything below it.
"""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.sources import csv_reader
from hybrid_jax.data.split_notes import Expected
from hybrid_jax.errors import UserError, escape, listed, plural
from hybrid_jax.paths import expand_user

COMMENT = re.compile(r"\s*#\s")  # `#1/3.png` is a path


class Exclusions:
    """The images that the user leaves out, with a count of those found for each entry.

    Attributes:
      count: number of images that were left out so far.
    """

    def __init__(self, file: str = "", root: Path | None = None):
        """Read the list; an empty name leaves nothing out.

        Args:
          file: the list.
          root: folder of the images; None for a prepared set.

        Raises:
          UserError: the file cannot be read, or lists the whole data set.
        """
        self._file, self.count = file, 0
        self._place = _Place(root).path if root else os.path.normpath
        names = _read(expand_user(file)) if file else []
        self._written = {self._place(name): os.path.normpath(name) for name in names}
        if os.curdir in self._written:
            raise UserError(
                f"config.data.exclude={escape(file)} lists the whole data set"
            )
        self._found = dict.fromkeys(self._written, 0)

    def matches(self, *names: str | os.PathLike) -> bool:
        """Return whether an image or a folder above it is left out; count it if so.

        The image counts for every entry of the list that stands for it.

        Args:
          names: the image's path in the data set, and its absolute path where it may
            lie outside.
        """
        if not self._found:
            return False
        paths = [PurePosixPath(self._place(name)) for name in names]
        above = {str(p) for path in paths for p in (path, *path.parents)}
        entries = self._found.keys() & above
        for entry in entries:
            self._found[entry] += 1
        self.count += bool(entries)
        return bool(entries)

    def matches_folder(self, name: str | os.PathLike) -> bool:
        """Return whether the list names a folder itself."""
        name = os.path.normpath(name)
        if name in self._found:
            self._found[name] += 1
        return name in self._found

    def notes(
        self, known: str = "paths relative to config.data.path"
    ) -> tuple[str, ...]:
        """Report how many images were left out, after all images were matched.

        Args:
          known: which paths the list may have, in words.

        Raises:
          UserError: an entry of the list matches no image.
        """
        missing = [
            escape(self._written[name])
            for name, count in self._found.items()
            if not count
        ]
        if missing:
            is_comment = any(name.startswith("#") for name in missing)
            hint = "; a comment begins with # and a space" if is_comment else ""
            raise UserError(
                f"config.data.exclude={escape(self._file)} lists paths that match no "
                f"image ({len(missing)} of {len(self._found)}): {listed(missing)}; "
                f"give {known}, or train/NUMBER{hint}"
            )
        if not self._file:
            return ()
        count = plural(self.count, "image")
        return (Expected(f"{count} left out, listed in {escape(self._file)}"),)


def exclude_rows(
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    config: DataConfig,
    unused: Mapping[str, int],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return rows of each split that `config.data.exclude` does not list, and notes.

    Files of a folder are left out earlier, by `sources.file_list`.

    Raises:
      UserError: the list cannot be read, or names images that are not there, all of a
        split, or all training images of a class.
    """
    rows = {split: np.arange(len(values)) for split, values in labels.items()}
    if config.name == "folder" or not config.exclude:
        return rows, ()
    exclusions = Exclusions(config.exclude)
    rows = {
        split: np.array(
            [row for row in split_rows if not exclusions.matches(f"{split}/{row}")],
            int,
        )
        for split, split_rows in rows.items()
    }
    for split, count in unused.items():  # they exist, though they are not used
        for row in range(count):
            exclusions.matches_folder(f"{split}/{row}")
    notes, left_out = (
        exclusions.notes(),
        f"config.data.exclude={escape(config.exclude)}",
    )
    for split, split_rows in rows.items():
        if not len(split_rows):
            raise UserError(f"{left_out} lists all images of the {split} split")
    for label in np.setdiff1d(labels["train"], labels["train"][rows["train"]]).tolist():
        raise UserError(
            f"{left_out} lists all training images of class {classes[label]!r}: leave "
            "some, or copy the images of the other classes to a folder"
        )
    return rows, notes


def _read(file: Path) -> list[str]:
    if not file.is_file():
        raise UserError(f"config.data.exclude={escape(file)} is no file")
    if file.suffix.lower() in csv_reader.SUFFIXES:
        cells = [row.cells["path"] for row in csv_reader.read(file, ("path",)).rows]
        names = [name for name in cells if name]  # rows that were cleared stay behind
    else:
        # File names need not be UTF-8.
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
        lines = (line for line in text.split("\n") if not COMMENT.match(line))
        names = [*filter(None, map(str.strip, lines))]
    return names


class _Place:
    """The folder of the images, by whatever links a path leads to it."""

    def __init__(self, root: Path):
        self._root = root
        self._is_root = functools.cache(lambda path: path.samefile(root))

    def path(self, name: str | os.PathLike) -> str:
        """Return the path of an image in the data set; absolute if it lies outside.

        A name that leads to no file is returned as it is.
        """
        is_inside = not os.path.isabs(name) and os.path.lexists(self._root / name)
        if is_inside or not os.path.lexists(name):
            return os.path.normpath(name)
        path = Path(os.path.abspath(name))
        folders = [path] if path.is_dir() else []
        for folder in (*folders, *path.parents):
            if self._is_root(folder):
                return str(path.relative_to(folder))
        return str(path)
