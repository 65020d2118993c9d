"""Refuse folders that look like the user's splits, but lie where classes belong."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.sources.folder_listing import (
    IMAGE_SUFFIXES,
    is_system_folder,
    refuse_unlisted,
)
from hybrid_jax.errors import UserError, escape


def refuse_misplaced_splits(root: Path, classes: Sequence[Path]) -> None:
    """Refuse splits inside classes, and splits that would be taken for classes.

    Otherwise the user's own split would be lost, and another one would be drawn. Where
    the first class has no folders, nothing else is listed.

    Args:
      root: the folder that has no splits.
      classes: the folders in it.

    Raises:
      UserError: names the folders and the layout that is needed.
    """
    inside: dict[str, list[str]] = {}
    has_images = False
    for folder in classes:
        inside[folder.name], is_direct = _folders_in(folder)
        has_images |= is_direct
        if not inside[folder.name]:
            return
    if inside and all(_are_splits(names, _whole) for names in inside.values()):
        name, (first, second, *_) = next(iter(inside.items()))
        raise UserError(
            f"{escape(root)} has splits inside its classes ({escape(name)}/{first}, "
            f"{escape(name)}/{second}): put classes inside splits ({first}/"
            f"{escape(name)}), or name the images in a table, a .csv with the columns "
            "path, label and split"
        )
    if _are_splits([*inside], _words) and not has_images:
        raise UserError(
            f"{escape(root)} has the folders {escape(' and '.join(inside))}, which "
            "would be classes: call splits train, val and test, or give "
            "--config.data.path=CLASSES, the folder that holds the classes"
        )


def _folders_in(folder: Path) -> tuple[list[str], bool]:
    """Return the folders in a folder, and whether images lie beside them."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        refuse_unlisted(error)
    folders = [entry.name for entry in entries if _is_folder(entry)]
    names = sorted(name for name in folders if not is_system_folder(name))
    suffixes = {Path(entry.name).suffix.lower() for entry in entries}
    return names, not suffixes.isdisjoint(IMAGE_SUFFIXES)


def _is_folder(entry: os.DirEntry) -> bool:
    with contextlib.suppress(OSError):  # of a link that leads to itself
        return entry.is_dir()
    return False


def _are_splits(names: Iterable[str], words: Callable[[str], set[str]]) -> bool:
    """Return whether the words of some names are those of train and of others."""
    roles = [
        {role for role, known in SPLITS.items() if words(name) & {*known}}
        for name in names
    ]
    is_train = [found == {"train"} for found in roles]
    return all(roles) and any(is_train) and not all(is_train)


def _whole(name: str) -> set[str]:
    return {name.casefold()}


def _words(name: str) -> set[str]:
    """Return the words of a name: those of `train_images` are two."""
    return {*re.split(r"[^a-z]+", name.casefold())}
