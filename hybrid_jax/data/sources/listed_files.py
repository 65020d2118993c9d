"""Image files that a caller lists, each with its label."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.lazy_images import (
    Files,
    LazyImages,
    refuse_unreadable,
    scan_images,
)
from hybrid_jax.data.pixel_format import ImageInfo, choose_pixel_format, depth_notes
from hybrid_jax.data.sources.class_folders import Entry
from hybrid_jax.data.sources.estimator_inputs import count_trained
from hybrid_jax.data.sources.file_list import draws_validation, with_groups
from hybrid_jax.data.sources.folder import skipped_note
from hybrid_jax.data.sources.label_checks import (
    check_classes,
    check_labels,
    encode_classes,
)
from hybrid_jax.data.sources.repeated_files import refuse_repeated
from hybrid_jax.errors import UserError, escape, plural
from hybrid_jax.paths import expand_user

WAY_OUT = "repair them, leave them out, or skip them (config.data.on_error=skip)"


class Used(NamedTuple):
    """Rows int64 `[n]` of the files that a config leaves, and notes on the others."""

    rows: np.ndarray
    notes: tuple[str, ...]


class ListedFiles:
    """Image files with labels, and what a data config makes of them."""

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        labels: Any,
        name: str,
        groups: np.ndarray | None = None,
    ) -> None:
        """Decode every file, and check the labels.

        Args:
          paths: paths of the files.
          labels: label of each file, `[N]`, numbers or text.
          name: name of the files in errors.
          groups: group of each file, text `[N]`; None leaves them to `config.group`.

        Raises:
          UserError: labels are missing or not valid.
        """
        self.paths, self.name = [Path(expand_user(path)) for path in paths], name
        self.labels, self._groups = check_labels(labels, name), groups
        if len(self.labels) != len(paths):
            raise UserError(
                f"{name}: {plural(len(paths), 'image')} and {len(self.labels):,} "
                "labels: give one label for each image"
            )
        self.infos: list[ImageInfo] = scan_images(Files(self.paths), name)

    def used(self, config: DataConfig) -> Used:
        """Leave out the files that a config excludes, and those it skips.

        Raises:
          UserError: a file cannot be read and may not be skipped, the list of
            `config.exclude` names a file that is not there, or no file is left.
        """
        exclusions = Exclusions(config.exclude)
        kept = [
            row
            for row, path in enumerate(self.paths)
            if not exclusions.matches(path, os.path.abspath(path), f"train/{row}")
        ]
        notes = exclusions.notes(f"paths as {self.name} has them")
        infos = {self.paths[row]: self.infos[row] for row in kept}
        if config.on_error != "skip":
            refuse_unreadable(Files([*infos]), [*infos.values()], self.name, WAY_OUT)
        rows = [row for row in kept if not self.infos[row].error]
        if not rows:
            raise UserError(f"{self.name} has no image that can be read")
        return Used(np.array(rows), (*notes, *skipped_note(infos)))

    def sizes(self, config: DataConfig) -> list[tuple[int, int]]:
        """Return the `(height, width)` of each file that a config leaves."""
        infos = [self.infos[row] for row in self.used(config).rows]
        return [(info.height, info.width) for info in infos]

    def count_trained(self, config: DataConfig) -> int:
        """Return how many files a config trains on.

        Raises:
          UserError: they cannot be split as the config asks for.
        """
        rows = self.used(config).rows
        groups = self.groups(rows, config)
        return count_trained(self.labels[rows], groups, _applied(config))

    def groups(self, rows: np.ndarray, config: DataConfig) -> np.ndarray | None:
        """Return the groups of some files, text `[n]`; None if there are none.

        Raises:
          UserError: `config.group` names groups too, or finds none in some paths.
        """
        if not config.group:
            return None if self._groups is None else self._groups[rows]
        if self._groups is not None:
            raise UserError(
                f"config.data.group={config.group!r} and groups both give groups: "
                "leave one of them out"
            )
        entries = [Entry("", self.paths[row], "") for row in rows]
        found = with_groups(entries, config.group, Path())
        return np.array([entry.group for entry in found], object)

    def load(self, config: DataConfig) -> data.Splits:
        """Split the files that a config leaves.

        Raises:
          UserError: a class has no file left, a file is there twice, the files cannot
            be split as the config asks for, or they differ in size and the config has
            no `image_size`.
        """
        return data.load_source(_Source(self, config), _applied(config))


def _applied(config: DataConfig) -> DataConfig:
    """Return the config for files of which the excluded ones are gone."""
    return dataclasses.replace(config, exclude="")


class _Source:
    """The listed files that a config leaves as one training split; a `data.Source`."""

    splits: tuple[str, ...] = ("train",)

    def __init__(self, listed: ListedFiles, config: DataConfig):
        """Choose the pixel format; see `ListedFiles.load`."""
        rows, notes = listed.used(config)
        paths = [listed.paths[row] for row in rows]
        infos = [listed.infos[row] for row in rows]
        self._files, self._name = Files(paths), listed.name
        self.unused = dict[str, int]()
        self.classes, encoded = encode_classes({"train": listed.labels})
        check_classes(self.classes, encoded)
        self._labels = encoded["train"][rows]
        self._check_classes()
        self._groups = listed.groups(rows, config)
        self._sizes = np.array([info[:2] for info in infos], np.int32)
        self.form = choose_pixel_format(
            infos, config.image_size, config.fit, config.background, listed.name
        )
        is_drawn = draws_validation(config)
        named = [f"as {self.classes[label]!r}" for label in self._labels.tolist()]
        files = ((p, here, is_drawn) for p, here in zip(paths, named, strict=True))
        self.notes = (
            *notes,
            *refuse_repeated(listed.name, files),
            *depth_notes([*map(escape, paths)], infos),
        )

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
        """Return the group of each image, text `[N]`; None if there are none."""
        return self._groups

    def _check_classes(self) -> None:
        """Refuse a class of which all files are left out."""
        counts = np.bincount(self._labels, minlength=len(self.classes))
        if not counts.all():
            raise UserError(
                f"{self._name}: all images of class "
                f"{self.classes[int(counts.argmin())]!r} are excluded or cannot be "
                "read: add images of it, or leave its images and labels out"
            )
