"""Refuse folders that look like the user's splits, but lie where classes belong."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.errors import UserError, escape


def refuse_misplaced_splits(
    root: Path,
    classes: Sequence[Path],
    folders: Callable[[Path], Sequence[Path]],
    has_direct_images: Callable[[Path], bool],
) -> None:
    """Refuse splits inside classes, and splits that would be taken for classes.

    Otherwise the user's own split would be lost, and another one would be drawn.

    Args:
      root: the folder that has no splits.
      classes: the folders in it.
      folders: lists the folders in a folder.
      has_direct_images: returns whether images lie in a folder itself.

    Raises:
      UserError: names the folders and the layout that is needed.
    """
    inside = {folder: folders(folder) for folder in classes}
    if classes and all(_are_splits(map(_whole, inside[folder])) for folder in classes):
        first, second, *_ = inside[classes[0]]
        raise UserError(
            f"{escape(root)} has splits inside its classes ({_shown(root, first)}, "
            f"{_shown(root, second)}): put classes inside splits ({first.name}/"
            f"{escape(classes[0].name)}), or name the images in a table, a .csv with "
            "the columns path, label and split"
        )
    if any(map(has_direct_images, classes)) or not all(inside.values()):
        return
    if _are_splits(map(_parts, classes)):
        names = " and ".join(escape(folder.name) for folder in classes)
        raise UserError(
            f"{escape(root)} has the folders {names}, which would be classes: call "
            "splits train, val and test, or give --config.data.path=CLASSES, the "
            "folder that holds the classes"
        )


def _are_splits(names: Iterable[set[str]]) -> bool:
    """Return whether folders, given by words of their names, are train and others."""
    roles = [
        {role for role, words in SPLITS.items() if found & {*words}} for found in names
    ]
    is_train = [found == {"train"} for found in roles]
    return all(roles) and any(is_train) and not all(is_train)


def _whole(folder: Path) -> set[str]:
    return {folder.name.casefold()}


def _parts(folder: Path) -> set[str]:
    """Return the words of a folder's name: those of `train_images` are two."""
    return {*re.split(r"[^a-z]+", folder.name.casefold())}


def _shown(root: Path, folder: Path) -> str:
    return escape(folder.relative_to(root))
