"""Source of image files that a caller lists, each with its label."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.lazy_images import (
    Files,
    LazyImages,
    refuse_unreadable,
    scan_images,
)
from hybrid_jax.data.pixel_format import ImageInfo, choose_pixel_format, depth_notes
from hybrid_jax.data.sources.array_checks import check_labels
from hybrid_jax.data.sources.arrays import check_classes, encode_classes
from hybrid_jax.data.sources.class_folders import Entry
from hybrid_jax.data.sources.file_list import with_groups
from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.paths import expand_user


class ListedFiles:
    """Source of listed image files as one training split; a `data.Source`."""

    splits: tuple[str, ...] = ("train",)

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        labels: Any,
        name: str,
        infos: Sequence[ImageInfo],
        config: DataConfig,
    ):
        """Check the labels, and choose the pixel format.

        Args:
          paths: paths of the files.
          labels: label of each file, `[N]`, numbers or text.
          name: name of the images in errors.
          infos: properties of each file, from `scan`.
          config: data set configuration.

        Raises:
          UserError: labels are missing or not valid, or the images differ in size and
            `config` has no `image_size`.
        """
        self._files = Files([*map(expand_user, paths)])
        self._name, self.unused = name, dict[str, int]()
        values = check_labels(labels, name)
        if len(values) != len(paths):
            raise UserError(
                f"{name}: {plural(len(paths), 'image')} and {len(values):,} labels: "
                "give one label for each image"
            )
        self.classes, encoded = encode_classes({"train": values})
        check_classes(self.classes, encoded)
        self._labels = encoded["train"]
        self._groups = _groups(self._files.paths, config)
        self._sizes = np.array([info[:2] for info in infos], np.int32)
        self.form = choose_pixel_format(
            [*infos], config.image_size, config.fit, config.background, name
        )
        self.notes = depth_notes([*map(escape, self._files.paths)], infos)

    def images(self, split: str) -> LazyImages:
        """Return the encoded images."""
        rows = np.arange(len(self._files))
        return LazyImages(self._files, self.form, rows, self._sizes)

    def decoded(self, split: str) -> np.ndarray:
        """Return all pixels, uint8 `[N, H, W, C]`."""
        return self.images(split).decode_all(self._name)

    @property
    def fingerprint(self) -> str:
        """Hash the names and sizes of all files, wherever they lie."""
        paths = self._files.paths
        lines = (f"{escape(path.name)} {path.stat().st_size}" for path in paths)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def labels(self, split: str) -> np.ndarray:
        """Return labels int32 `[N]`, in the order of the images."""
        return self._labels

    def groups(self, split: str) -> np.ndarray | None:
        """Return the groups that `config.group` finds in the paths, text `[N]`."""
        return self._groups


def _groups(paths: Sequence[Path], config: DataConfig) -> np.ndarray | None:
    """Return the groups `[N]` of files; None if the config names none.

    Raises:
      UserError: the expression finds no group in some paths.
    """
    if not config.group:
        return None
    entries = [Entry("", path, "") for path in paths]
    found = with_groups(entries, config.group, Path())
    return np.array([entry.group for entry in found], object)


def scan(paths: Sequence[str | os.PathLike], name: str) -> list[ImageInfo]:
    """Decode every image file, and return its `ImageInfo`.

    Args:
      paths: paths of the files.
      name: name of the images in errors.

    Raises:
      UserError: a file cannot be read.
    """
    files = Files([Path(expand_user(path)) for path in paths])
    infos = scan_images(files, name)
    refuse_unreadable(files, infos, name, "repair them, or leave them out")
    return infos
