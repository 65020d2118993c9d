"""Source of the user's images: files listed, scanned once, decoded to one format."""

import hashlib
import os
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.decode_cache import (
    READER_VERSION,
    decoded,
    read_cache,
    write_cache,
)
from hybrid_jax.data.lazy_images import (
    Files,
    LazyImages,
    UnreadableImages,
    refuse_unreadable,
    scan_images,
)
from hybrid_jax.data.pixel_format import ImageInfo, choose_pixel_format, depth_notes
from hybrid_jax.data.sources.class_folders import check_outside
from hybrid_jax.data.sources.file_list import FileSplits, LabeledFiles, list_images
from hybrid_jax.data.splitting import check_test_fraction, used_splits
from hybrid_jax.errors import UserError, escape, listed, plural
from hybrid_jax.paths import expand_user

if typing.TYPE_CHECKING:
    from hybrid_jax.config.schema import DataConfig

MAX_NAMED = 20  # skipped images that a note names
FOLDERS = "folders"  # of decoded images, in `config.data.dir`


class FileState(NamedTuple):
    """Size, time of change (ns) and reader of a file, which determine its pixels."""

    size: int
    changed: int
    reader: str


class FolderSource:
    """Source of the user's images at `config.data.path`; a `data.Source`."""

    def __init__(self, config: "DataConfig"):
        """List the images, read the properties of each, and choose the pixel format.

        Raises:
          UserError: the images cannot be listed or split, or some cannot be read and
            may not be skipped. Splits that the user holds out are never shortened.
        """
        path = config.path
        listed = _listed(config)
        if config.dir:
            place = expand_user(config.dir) / FOLDERS
            check_outside("config.data.dir", place, config)
        self.classes, self.splits = listed.classes, tuple(listed.splits)
        self.unused: dict[str, int] = {}
        self._root = expand_user(path)
        self._title = escape(self._root.name) or path
        self._cache = _cache_folder(path, config.dir)
        infos = self._scan(listed.splits)
        _refuse_unreadable(listed, infos, config.on_error)
        self._files = {s: _readable(files, infos) for s, files in listed.splits.items()}
        self._check_classes(listed)
        read = {path: info for path, info in infos.items() if not info.error}
        good = [*read.values()]
        self._sizes = {path: info[:2] for path, info in infos.items()}
        self.form = choose_pixel_format(
            good, config.image_size, config.fit, config.background, escape(path)
        )
        self.notes = (
            *listed.notes,
            *skipped_note(infos),
            *_transparency_note(good, config.background),
            *depth_notes([*map(escape, read)], good),
        )

    def images(self, split: str) -> LazyImages:
        """Return the encoded images of a split."""
        paths = self._files[split].paths
        sizes = np.array([self._sizes[path] for path in paths], np.int32)
        return LazyImages(Files(paths), self.form, np.arange(len(paths)), sizes)

    def decoded(self, split: str) -> np.ndarray:
        """Return all pixels of a split, uint8 `[N, H, W, C]`."""
        paths = self._files[split].paths
        state = [f"{path} {self._file_states[path]}" for path in paths]
        digest = _digest([self.form.cache_key, *state])[:16]
        key, title = f"{self.form.fit}-{digest}", f"{self._title} {split}"
        return decoded(self.images(split), self._cache, split, key, title)

    @property
    def fingerprint(self) -> str:
        """Hash the names and sizes of all files, wherever the folder lies."""
        sizes = {path: state.size for path, state in self._file_states.items()}
        return _digest(
            f"{split} {os.path.relpath(path, self._root)} {sizes[path]}"
            for split in self.splits
            for path in self._files[split].paths
        )

    def labels(self, split: str) -> np.ndarray:
        """Return labels int32 `[N]`, in the order of the images."""
        return self._files[split].labels

    def groups(self, split: str) -> np.ndarray | None:
        """Return the group of each image, text `[N]`; None if there are none."""
        return self._files[split].groups

    def _scan(self, file_lists: dict[str, LabeledFiles]) -> dict[Path, ImageInfo]:
        """Return properties of every image, cached while its file is unchanged."""
        cache_file = self._cache / "facts.json"
        cached = read_cache(cache_file, len(FileState._fields) + len(ImageInfo._fields))
        paths = [path for files in file_lists.values() for path in files.paths]
        self._file_states = {path: _file_state(path) for path in paths}
        infos = {
            path: ImageInfo(*cached[str(path)][len(state) :])
            for path, state in self._file_states.items()
            if cached.get(str(path), [])[: len(state)] == [*state]
        }
        new = [path for path in self._file_states if path not in infos]
        infos |= zip(new, scan_images(Files(new), self._title), strict=True)
        if new or len(cached) != len(infos):
            # Do not cache unreadable files: `chmod` repairs them but keeps their time.
            good = {path: info for path, info in infos.items() if not info.error}
            rows = {str(path): [*self._file_states[path], *good[path]] for path in good}
            write_cache(cache_file, rows)
        return infos

    def _check_classes(self, listed: FileSplits) -> None:
        """Refuse classes of which all training or test images were skipped."""
        needed = self.splits if listed.held_out else ("train",)
        for split in needed:
            count = np.bincount(self.labels(split), minlength=len(self.classes))
            if not count.all():
                name = self.classes[int(count.argmin())]
                kind = "" if split == "train" else " that was held out for testing"
                raise UserError(
                    f"{escape(self._root)}: no image of class {name!r}{kind} can be "
                    "read"
                )


def _listed(config: "DataConfig") -> FileSplits:
    """List the user's images, without a validation split that is not to be used.

    Raises:
      UserError: the images cannot be listed, or not split as `config` asks.
    """
    wanted = SPLITS if config.validation else SPLITS.keys() - {"validation"}
    listed = list_images(config, wanted)
    sizes = {split: len(files.labels) for split, files in listed.splits.items()}
    check_test_fraction(listed.splits, listed.held_out, config)
    used_splits(sizes, config)
    return listed


def _refuse_unreadable(
    listed: FileSplits, infos: dict[Path, ImageInfo], on_error: str
) -> None:
    """Refuse unreadable images which may not be skipped.

    Splits that the user holds out are never shortened.

    Raises:
      UnreadableImages: there are some.
    """
    for split, (paths, *_) in listed.splits.items():
        may_skip = split == "train" or listed.held_out
        if may_skip and on_error == "skip":
            continue
        way_out = "repair or remove them, list them in a file for config.data.exclude"
        if may_skip:
            way_out += ", or --config.data.on_error=skip"
        try:
            refuse_unreadable(Files(paths), [infos[p] for p in paths], split, way_out)
        except UnreadableImages as error:
            if not listed.held_out:
                error.named_splits = listed.splits.keys() - {"train"}
            raise


def _readable(files: LabeledFiles, infos: dict[Path, ImageInfo]) -> LabeledFiles:
    rows = np.flatnonzero([not infos[path].error for path in files.paths])
    return files.take(rows)


def skipped_note(infos: Mapping[Path, ImageInfo]) -> tuple[str, ...]:
    """Return the note on skipped images, each with its reason; empty if none is."""
    skipped = [f"{escape(p)}: {info.error}" for p, info in infos.items() if info.error]
    if not skipped:
        return ()
    count = plural(len(skipped), "image")
    names = listed(skipped, MAX_NAMED, "; ")
    return (f"{count} skipped, which cannot be read: {names}",)


def _transparency_note(infos: list[ImageInfo], background: str) -> tuple[str, ...]:
    count = sum(info.transparent for info in infos)
    if not count:
        return ()
    return (
        f"{plural(count, 'image')} with transparent parts, shown on {background} "
        "(config.data.background)",
    )


def _cache_folder(path: str, dir: str) -> Path:
    """Return the cache folder of a user's folder; it lies outside of that folder."""
    resolved = str(expand_user(path).resolve())
    # A name has at most 255 bytes in most file systems.
    beginning = os.fsdecode(os.fsencode(Path(resolved).name)[:100])
    name = f"{beginning}-{_digest([resolved])[:12]}"
    root = expand_user(dir) if dir else platformdirs.user_cache_path("hybrid_jax")
    return root / FOLDERS / name


def _digest(lines: Iterable[str]) -> str:
    # File names need not be UTF-8.
    content = "\n".join(lines).encode(errors="surrogateescape")
    return hashlib.sha256(content).hexdigest()


def _file_state(path: Path) -> FileState:
    try:
        found = path.stat()
    except OSError:  # reading the file will raise the reason
        return FileState(0, 0, READER_VERSION)
    return FileState(found.st_size, found.st_mtime_ns, READER_VERSION)
