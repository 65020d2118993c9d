"""Images in folders: which are classes, which are splits, and what is neither.

DIR/train/<class>/*  beside  DIR/val/<class>/*  or  DIR/test/<class>/*,  or both
DIR/<class>/*                                    to be split by a share of each class
"""

import collections
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.image_io import OTHER_SUFFIXES, SUFFIXES
from hybrid_jax.errors import UserError, counted, shown

# Names of splits, in any case.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
KNOWN = {*SUFFIXES, *OTHER_SUFFIXES}
# What file servers, archivers and systems leave in folders.
FOREIGN = frozenset(
    {
        *("@eadir", "@recently-snapshot", "@recycle", "#recycle", "#snapshot"),
        *("$recycle.bin", "__macosx", "__pycache__", "lost+found"),
        "system volume information",
    }
)


class Entry(NamedTuple):
    """One image: its split or nothing yet, its file, and its class's name.

    Its group, too, where it has one.
    """

    split: str
    path: Path
    label: str
    group: str = ""


class Folder(NamedTuple):
    """What a folder holds.

    Attributes:
      entries: the images that are used.
      notes: in words, what was left out.
      empty: in words, each class folder without images.
      splits: those of the user that are used; none where there are none.
    """

    entries: list[Entry]
    notes: list[str]
    empty: list[str]
    splits: tuple[str, ...] = ()


def read_folder(
    place: Path, exclusions: Exclusions, wanted: Container[str] = SPLITS
) -> Folder:
    """The images below a folder, by split and class.

    Args:
      place: the folder.
      exclusions: what to leave out.
      wanted: splits that are used; others are counted in the notes.

    Raises:
      UserError: it is not laid out as either of the two, or cannot be listed.
    """
    walk = _Walk(place, exclusions)
    roles = _roles(walk)
    if not roles:
        walk.add_classes(place, "")
        return walk.found()
    if "train" not in roles or len(roles) < 2:
        raise _lacks_a_split(place, roles)
    used = {role: folder for role, folder in roles.items() if role in wanted}
    for role, folder in used.items():
        walk.add_classes(folder, role)
    taken = " and ".join(shown(folder.name) for folder in used.values())
    others = [f for f in walk.folders(place) if f not in used.values()]
    for folder in others:
        if images := walk.left_in(walk.images(folder)):
            count, name = counted(len(images), "image"), shown(folder.name)
            verb = "is" if len(used) == 1 else "are"
            walk.notes.append(f"{count} in {name} left out: only {taken} {verb} used")
    walk.note_loose(place)
    return walk.found()._replace(splits=tuple(used))


def read_folder_split(place: Path, split: str) -> Folder:
    """The images of one split of a folder, or of all where it has none, by class.

    Args:
      place: the folder.
      split: which; it must be empty or one that the folder has, if it has any.

    Raises:
      UserError: the split is not there, there are no classes, or a folder cannot be
        listed.
    """
    walk = _Walk(place, Exclusions())
    roles = _roles(walk)
    chosen, notes = chosen_split(place, tuple(roles), split)
    walk.add_classes(roles[chosen] if chosen else place, chosen)
    found = walk.found()
    return found._replace(notes=[*notes, *found.notes])


def chosen_split(
    place: Path, there: Sequence[str], split: str
) -> tuple[str, tuple[str, ...]]:
    """The split that is meant, and notes; empty where there are none.

    Args:
      place: a folder or a table.
      there: splits that it has.
      split: that somebody asked for, or empty.

    Raises:
      UserError: it has splits, and not this one.
    """
    if not there:
        has_none = f"{shown(place)} has no splits: all of its images are used"
        return "", (has_none,) if split else ()
    if split not in there:
        asked = f"and no {split}" if split else "so one must be named"
        raise UserError(f"{shown(place)} has the splits {', '.join(there)}, {asked}")
    return split, ()


def images_below(folder: Path) -> list[Path]:
    """Image files in a folder and its folders, in the order of their paths.

    Raises:
      UserError: one of the folders cannot be listed.
    """
    return [*_Walk(folder, Exclusions()).images(folder)]


class _Walk:
    """Images below a folder, and what is met on the way to them."""

    def __init__(self, place: Path, exclusions: Exclusions):
        self.place, self._exclusions = place, exclusions
        self._foreign: set[Path] = set()
        self._entries: list[Entry] = []
        self._empty: list[str] = []
        self.notes: list[str] = []

    def found(self) -> Folder:
        """All that was met."""
        if self._foreign:
            names = collections.Counter(shown(path.name) for path in self._foreign)
            named = ", ".join(f"{n:,} {name}" for name, n in sorted(names.items()))
            self.notes.append(f"folders of file servers or systems left out: {named}")
        return Folder(self._entries, self.notes, self._empty)

    def add_classes(self, place: Path, split: str) -> None:
        """Takes every folder in `place` for a class.

        Raises:
          UserError: it has no images.
        """
        before = len(self._entries)
        for folder in self.folders(place):
            images = [*self.images(folder)]
            kept = self.left_in(images)
            if not kept and not self._exclusions.lists(folder.relative_to(self.place)):
                self._empty.append(self._empty_class(folder, len(images)))
            self._entries += (Entry(split, path, folder.name) for path in kept)
        self._empty += (
            f"class folder {shown(link.relative_to(self.place))!r} is a link to nothing"
            for link in _shown_entries(place)
            if _is_dead(link) and link.suffix.lower() not in KNOWN
        )
        loose = self.note_loose(place)
        if len(self._entries) == before and not self._empty:
            raise _no_images(place, loose, split)

    def left_in(self, images: Iterable[Path]) -> list[Path]:
        """Those images that the user does not leave out."""
        hold = self._exclusions.hold
        return [path for path in images if not hold(path.relative_to(self.place))]

    def note_loose(self, place: Path) -> int:
        """Says how many images lie beside the folders of `place`; their number."""
        loose = sum(path.suffix.lower() in KNOWN for path in _shown_files(place))
        if loose:
            where = shown(place.relative_to(self.place.parent))
            self.notes.append(
                f"{counted(loose, 'image')} in {where} left out, beside its folders"
            )
        return loose

    def folders(self, place: Path) -> list[Path]:
        """Folders in a folder that are the user's own, by name."""
        found = [entry for entry in _shown_entries(place) if entry.is_dir()]
        self._foreign.update(f for f in found if _is_foreign(f.name))
        return [folder for folder in found if not _is_foreign(folder.name)]

    def has_images(self, folder: Path) -> bool:
        """Whether images lie anywhere below a folder."""
        return any(True for _ in self.images(folder))

    def images(self, folder: Path) -> Iterator[Path]:
        """Image files in a folder and its folders, in the order of their paths.

        Raises:
          UserError: one of the folders cannot be listed.
        """
        seen, found = set(), []
        for here, folders, files in os.walk(
            folder, followlinks=True, onerror=_refuse_unlisted
        ):
            real = os.path.realpath(here)
            own = [f for f in folders if f[0] != "." and not _is_foreign(f)]
            self._foreign.update(Path(here, f) for f in folders if _is_foreign(f))
            folders[:] = [] if real in seen else own
            if real not in seen:
                found += [Path(here, file) for file in files]
            seen.add(real)
        return filter(_is_image, sorted(found))

    def _empty_class(self, folder: Path, excluded: int) -> str:
        where = shown(folder.relative_to(self.place))
        if excluded:
            return (
                f"class folder {where!r} has no image left that config.data.exclude "
                f"does not list: to leave out the class, list {where}"
            )
        others = collections.Counter(
            Path(name).suffix.lower() or "without suffix"
            for _, _, names in os.walk(folder, onerror=_refuse_unlisted)
            for name in names
        )
        held = ", ".join(f"{n:,} {shown(kind)}" for kind, n in others.most_common())
        but = f", but {held}" if held else ""
        return f"class folder {where!r} holds no image{but}"


def _roles(walk: _Walk) -> dict[str, Path]:
    """The folder of each split; none where the folders are classes.

    A folder called `train` is a class where it holds images itself and lies among
    others that do.

    Raises:
      UserError: two folders have one role.
    """
    place, roles, named = walk.place, {}, {}
    folders = walk.folders(place)
    for role, names in SPLITS.items():
        named[role] = [f for f in folders if f.name.casefold() in names]
    known = [folder for found in named.values() for folder in found]
    others = [folder for folder in folders if folder not in known]
    classes = all(_holds_images_alone(walk, folder) for folder in known)
    if classes and any(map(walk.has_images, others)):
        return {}
    for role, found in named.items():
        if len(found) > 1:
            raise UserError(
                f"{shown(place)} has more than one folder for {role}: "
                f"{', '.join(shown(f.name) for f in found)}; leave one of them there"
            )
        if found:
            roles[role] = found[0]
    return roles


def _holds_images_alone(walk: _Walk, folder: Path) -> bool:
    """Whether a folder has images in it, and none in folders of its own."""
    inside = any(map(_is_image, _shown_files(folder)))
    return inside and not any(map(walk.has_images, walk.folders(folder)))


def _lacks_a_split(place: Path, roles: dict[str, Path]) -> UserError:
    """The error of a folder with images for training or for testing alone."""
    names = " and ".join(repr(shown(folder.name)) for folder in roles.values())
    if "train" not in roles:
        return UserError(
            f"{shown(place)} has images to test on in {names}, and no folder 'train': "
            "add it"
        )
    name = shown(roles["train"].name)
    return UserError(
        f"{shown(place)} has images to train on in {names}, and no folder 'test' or "
        f"'val': add it, or have a share held out with "
        f"--config.data.path={shown(place)}/{name}; if {names} is a class, name the "
        "images in a table, a .csv with the columns path and label"
    )


def _no_images(place: Path, loose: int, split: str) -> UserError:
    """The error of a folder that has no class."""
    expected = f"expected {shown(place)}/<class>/<image>, of {', '.join(SUFFIXES)}"
    if not loose:
        return UserError(f"{shown(place)} holds no images: {expected}")
    others = "; or have a share of the training images held out" if split else ""
    return UserError(
        f"{shown(place)} holds images, but not in folders by class: {expected}; or "
        f"name them in a table, a .csv with the columns path and label{others}"
    )


def _shown_entries(place: Path) -> list[Path]:
    try:
        entries = [entry for entry in place.iterdir() if entry.name[0] != "."]
    except OSError as error:
        _refuse_unlisted(error)
    return sorted(entries, key=lambda entry: entry.name)


def _refuse_unlisted(error: OSError) -> None:
    raise UserError(
        f"{shown(error.filename)} cannot be listed ({error.strerror}): make it "
        "readable, or move it elsewhere"
    ) from None


def _shown_files(place: Path) -> list[Path]:
    return [entry for entry in _shown_entries(place) if not entry.is_dir()]


def _is_image(file: Path) -> bool:
    """Whether a name is that of an image, or may be, whatever there is behind it."""
    if file.name.startswith("."):
        return False
    return file.suffix.lower() in KNOWN or (not file.suffix and _is_dead(file))


def _is_dead(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _is_foreign(name: str) -> bool:
    return name.casefold() in FOREIGN
