"""Images in folders of classes, with or without splits.

DIR/train/<class>/*  beside  DIR/val/<class>/*  or  DIR/test/<class>/*,  or both
DIR/<class>/*                                    split later, by a share of each class
"""

from collections.abc import Container, Sequence
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.image_io import SUFFIXES
from hybrid_jax.data.sources.folder_listing import (
    IMAGE_SUFFIXES,
    Listing,
    count_by_suffix,
    counts_text,
    is_dangling_link,
    is_image,
    is_system_folder,
    list_below,
    system_folders_note,
    upward_links_note,
    visible_entries,
    visible_files,
)
from hybrid_jax.data.sources.misplaced_splits import refuse_misplaced_splits
from hybrid_jax.data.split_notes import Expected
from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.paths import expand_user


class Entry(NamedTuple):
    """One image: its split, file, class and group; split and group may be empty.

    An excluded image is one that `config.data.exclude` lists.
    """

    split: str
    path: Path
    label: str
    group: str = ""
    excluded: bool = False


class FolderContents(NamedTuple):
    """The images of a folder or a table, and what was left out.

    Attributes:
      entries: the images, with those that the user leaves out.
      notes: messages on what was left out.
      empty: messages, one for each class folder without images.
      splits: names of the user's splits that are used; empty if there are none.
      others: files among the images of the classes that are no images.
      group_column: the table's own name of the column of groups; empty without one.
    """

    entries: list[Entry]
    notes: list[str]
    empty: list[str]
    splits: tuple[str, ...] = ()
    others: Sequence[Path] = ()
    group_column: str = ""


def read_folder(
    root: Path, exclusions: Exclusions, wanted: Container[str] = SPLITS
) -> FolderContents:
    """List the images below a folder, by split and class.

    Args:
      root: the folder.
      exclusions: images to leave out.
      wanted: splits to use; others are counted in the notes.

    Raises:
      UserError: the folder has neither layout, or cannot be listed.
    """
    walk = _Walk(root, exclusions)
    roles = _roles(walk)
    if not roles:
        refuse_misplaced_splits(root, walk.folders(root))
        walk.add_classes(root, "")
        return walk.found()
    if "train" not in roles or len(roles) < 2:
        raise _lacks_a_split(root, roles)
    used = {role: folder for role, folder in roles.items() if role in wanted}
    for role, folder in used.items():
        walk.add_classes(folder, role)
    walk.add_dead_splits(wanted)
    used_names = " and ".join(escape(folder.name) for folder in used.values())
    others = [f for f in walk.folders(root) if f not in used.values()]
    for folder in others:
        if images := [*filterfalse(walk.is_excluded, walk.images(folder))]:
            count, name = plural(len(images), "image"), escape(folder.name)
            verb = "is" if len(used) == 1 else "are"
            note = f"{count} in {name} left out: only {used_names} {verb} used"
            walk.notes.append(Expected(note) if folder in roles.values() else note)
    walk.note_loose_images(root)
    return walk.found()._replace(splits=tuple(used))


def read_folder_split(root: Path, split: str) -> FolderContents:
    """List the images of one split of a folder, or all where it has no splits.

    Args:
      root: the folder.
      split: name of a split that the folder has; empty if it has none.

    Raises:
      UserError: the split or the classes are missing, or a folder cannot be listed.
    """
    walk = _Walk(root, Exclusions())
    roles = _roles(walk)
    role, notes = requested_split(root, tuple(roles), split)
    if not roles:
        refuse_misplaced_splits(root, walk.folders(root))
    walk.add_classes(roles[role] if role else root, role)
    found = walk.found()
    splits = (role,) if role else ()
    return found._replace(notes=[*notes, *found.notes], splits=splits)


def requested_split(
    root: Path, splits: Sequence[str], split: str
) -> tuple[str, tuple[str, ...]]:
    """Return the requested split and notes; an empty name where there are no splits.

    Args:
      root: a folder or a table.
      splits: splits that it has.
      split: requested split, or empty.

    Raises:
      UserError: the folder or table has splits, but not this one.
    """
    if not splits:
        has_none = f"{escape(root)} has no splits: all of its images are used"
        return "", (has_none,) if split else ()
    if split not in splits:
        request = f"and no {split}" if split else "so one must be named"
        raise UserError(f"{escape(root)} has the splits {', '.join(splits)}, {request}")
    return split, ()


def check_outside(flag: str, folder: Path, config: DataConfig) -> None:
    """Refuse an output folder that a later run would take for a class.

    Args:
      flag: flag that sets the folder, such as `--workdir`.
      folder: output folder; it need not exist.
      config: data set of the run. A table lists its images, and other data sets have
        places of their own, so any folder suits them.

    Raises:
      UserError: the output folder lies among the images.
    """
    if config.name != "folder" or not config.path:  # loading says what is missing
        return
    root = expand_user(config.path).resolve()
    inside = expand_user(folder).resolve()
    if not root.is_dir() or not inside.is_relative_to(root):
        return
    parts = inside.relative_to(root).parts
    if any(part.startswith(".") for part in parts):
        return  # a hidden folder
    folders = {entry.name.casefold() for entry in root.iterdir() if entry.is_dir()}
    roles = {role for role, names in SPLITS.items() if folders & {*names}}
    matches = {name for names in SPLITS.values() for name in names}
    if "train" in roles and len(roles) > 1 and {*parts[:1]} - matches:
        return  # beside the splits, where no class is expected
    raise UserError(
        f"{flag}={folder} lies among the images of config.data.path={config.path}, "
        "where it would become a class: give a folder elsewhere"
    )


class _Walk:
    """Collector of the images below a folder, and of notes on what is left out."""

    def __init__(self, root: Path, exclusions: Exclusions):
        self.root, self._exclusions = root, exclusions
        self._system_folders: set[Path] = set()
        self._upward_links: set[Path] = set()
        self._entries: list[Entry] = []
        self._empty: list[str] = []
        self._others: list[Path] = []
        self.notes: list[str] = []

    def found(self) -> FolderContents:
        """Return the collected images and notes."""
        self.notes += system_folders_note(self._system_folders)
        self.notes += upward_links_note(self._upward_links)
        return FolderContents(
            self._entries, self.notes, self._empty, others=self._others
        )

    def add_classes(self, root: Path, split: str) -> None:
        """Add every folder in `root` as a class.

        Raises:
          UserError: no folder in `root` has images.
        """
        before = len(self._entries)
        for folder in self.folders(root):
            found = self._list(folder)
            entries = [
                Entry(split, path, folder.name, excluded=self.is_excluded(path))
                for path in found.images
            ]
            if not all(entry.excluded for entry in entries):
                self._others += found.others
            elif not self._is_listed(folder):
                self._empty.append(
                    self._empty_class(folder, len(entries), found.others)
                )
            self._entries += entries
        self._empty += (f"class {self._dead(link)}" for link in self._dead_links(root))
        loose_count = self.note_loose_images(root)
        if len(self._entries) == before and not self._empty:
            raise _no_images(root, loose_count, split)

    def is_excluded(self, path: Path) -> bool:
        """Return whether the user leaves out an image."""
        return self._exclusions.matches(path.relative_to(self.root))

    def add_dead_splits(self, wanted: Container[str]) -> None:
        """Name wanted splits that are links to missing folders."""
        names = {n for role, found in SPLITS.items() if role in wanted for n in found}
        self._empty += (
            self._dead(link)
            for link in self._dead_links(self.root)
            if link.name.casefold() in names
        )

    def _dead_links(self, root: Path) -> list[Path]:
        """List the links in `root` to missing folders that the user does not list."""
        return [
            link
            for link in visible_entries(root)
            if is_dangling_link(link)
            and link.suffix.lower() not in IMAGE_SUFFIXES
            and not self._is_listed(link)
        ]

    def _dead(self, link: Path) -> str:
        name = escape(link.relative_to(self.root))
        return f"folder {name!r} is a link to a missing folder"

    def _is_listed(self, folder: Path) -> bool:
        """Return whether the user leaves out a class by its folder or its split's."""
        name = folder.relative_to(self.root)
        return any(map(self._exclusions.matches_folder, (name, name.parent)))

    def note_loose_images(self, root: Path) -> int:
        """Count the images beside the folders of `root`, and note them."""
        loose_count = sum(
            path.suffix.lower() in IMAGE_SUFFIXES for path in visible_files(root)
        )
        if loose_count:
            where = escape(root.relative_to(self.root.parent))
            self.notes.append(
                f"{plural(loose_count, 'image')} in {where} left out, beside its "
                "folders"
            )
        return loose_count

    def folders(self, root: Path) -> list[Path]:
        """List the folders in a folder, without those of file servers and systems."""
        found = [entry for entry in visible_entries(root) if entry.is_dir()]
        self._system_folders.update(f for f in found if is_system_folder(f.name))
        return [folder for folder in found if not is_system_folder(folder.name)]

    def has_images(self, folder: Path) -> bool:
        """Return whether any image lies below a folder."""
        return bool(self.images(folder))

    def images(self, folder: Path) -> list[Path]:
        """List image files in a folder and its subfolders, sorted by path.

        Raises:
          UserError: one of the folders cannot be listed.
        """
        return self._list(folder).images

    def _list(self, folder: Path) -> Listing:
        found = list_below(folder)
        self._system_folders |= found.system_folders
        self._upward_links |= {
            link.relative_to(self.root) for link in found.upward_links
        }
        return found

    def _empty_class(self, folder: Path, excluded: int, others: Sequence[Path]) -> str:
        where = escape(folder.relative_to(self.root))
        if excluded:
            return (
                f"class folder {where!r} has only images that config.data.exclude "
                f"lists: to leave out the whole class, list {where}"
            )
        contents = counts_text(count_by_suffix(others))
        detail = f", but {contents}" if contents else ""
        return f"class folder {where!r} holds no image{detail}"


def _roles(walk: _Walk) -> dict[str, Path]:
    """Return the folder of each split; none where the folders are classes.

    A folder named `train` is a class if it and folders beside it hold images directly.

    Raises:
      UserError: two folders have one role.
    """
    root, roles, named = walk.root, {}, {}
    folders = walk.folders(root)
    for role, names in SPLITS.items():
        named[role] = [f for f in folders if f.name.casefold() in names]
    matches = [folder for found in named.values() for folder in found]
    others = [folder for folder in folders if folder not in matches]
    classes = all(_holds_images_alone(walk, folder) for folder in matches)
    if classes and any(map(walk.has_images, others)):
        return {}
    for role, found in named.items():
        if len(found) > 1:
            raise UserError(
                f"{escape(root)} has more than one folder for {role}: "
                f"{', '.join(escape(f.name) for f in found)}; keep only one of them"
            )
        if found:
            roles[role] = found[0]
    return roles


def _holds_images_alone(walk: _Walk, folder: Path) -> bool:
    """Return whether images lie in a folder, and none in its subfolders."""
    inside = any(map(is_image, visible_files(folder)))
    return inside and not any(map(walk.has_images, walk.folders(folder)))


def _lacks_a_split(root: Path, roles: dict[str, Path]) -> UserError:
    """Return the error for a folder that has only training or only test images."""
    names = " and ".join(repr(escape(folder.name)) for folder in roles.values())
    if "train" not in roles:
        return UserError(
            f"{escape(root)} has images to test on in {names}, and no folder 'train': "
            "add it"
        )
    name = escape(roles["train"].name)
    return UserError(
        f"{escape(root)} has images to train on in {names}, and no folder 'test' or "
        f"'val': add it, or hold out a share of the training images with "
        f"--config.data.path={escape(root)}/{name}; if {names} is a class, name the "
        "images in a table, a .csv with the columns path and label"
    )


def _no_images(root: Path, loose_count: int, split: str) -> UserError:
    """Return the error for a folder without classes."""
    expected = f"expected {escape(root)}/<class>/<image>, of {', '.join(SUFFIXES)}"
    if not loose_count:
        return UserError(f"{escape(root)} holds no images: {expected}")
    others = "; or have a share of the training images held out" if split else ""
    return UserError(
        f"{escape(root)} holds images, but not in folders by class: {expected}; or "
        f"name them in a table, a .csv with the columns path and label{others}"
    )
