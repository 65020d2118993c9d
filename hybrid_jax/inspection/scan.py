"""Scan a data set: decode every image once, and compute its fingerprints."""

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.exclusions import exclude_rows
from hybrid_jax.data.image_io import Unreadable, decode, read_info_and_image
from hybrid_jax.data.lazy_images import Files, Records, parallel_map
from hybrid_jax.data.pixel_format import ImageInfo, PixelFormat
from hybrid_jax.data.sources import csv_reader
from hybrid_jax.data.sources.file_list import find_images
from hybrid_jax.data.sources.folder_listing import count_by_suffix, list_below
from hybrid_jax.data.splitting import (
    DEFAULT_VALIDATION,
    check_test_fraction,
    make_splits,
)
from hybrid_jax.errors import UserError
from hybrid_jax.inspection.fingerprints import Fingerprints, compute_fingerprints
from hybrid_jax.paths import expand_user


class FoundImages(NamedTuple):
    """The images of all splits as the source has them, not yet decoded.

    Attributes:
      title: name of the data set.
      classes: names of the classes, in the order of the labels.
      records: records by split, `train` first.
      labels: labels by split, int32 `[N]`.
      path: path of the user's own images; None for other data sets.
      groups: groups of the images by split; None for a split without groups.
      background: color behind transparent pixels.
      held_out: whether the test split was held out from the training images.
      notes: what was left out, in words.
      empty: each class folder without images, in words.
      excluded: files that the user leaves out.
    """

    title: str
    classes: tuple[str, ...]
    records: dict[str, Records]
    labels: dict[str, np.ndarray]
    path: Path | None = None
    groups: Mapping[str, np.ndarray | None] = MappingProxyType({})
    background: str = "white"
    held_out: bool = False
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    excluded: tuple[Path, ...] = ()


class UnreadableImage(NamedTuple):
    """An image that cannot be read, and the reason."""

    name: str
    split: str
    label: int
    reason: str


@dataclasses.dataclass(frozen=True)
class ScannedImages:
    """The N images that are used, the training images first.

    Attributes:
      found: the images before the scan.
      records: records of all splits, one after the other.
      rows: int64 `[N]`, number of each image's record.
      split_index: int64 `[N]`, index of each image's split in `splits`.
      labels: int32 `[N]`.
      infos: size, format and levels of each image.
      fingerprints: fingerprints of the images.
      unreadable: images that cannot be read and are left out.
      notes: what was left out on purpose.
      refusal: why training refuses to make these splits; empty if it makes them.
    """

    found: FoundImages
    records: "ConcatenatedRecords"
    rows: np.ndarray
    split_index: np.ndarray
    labels: np.ndarray
    infos: list[ImageInfo]
    fingerprints: Fingerprints
    unreadable: list[UnreadableImage]
    notes: tuple[str, ...]
    refusal: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.found.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order of their images."""
        return tuple(self.found.records)

    def name(self, number: int) -> str:
        """Return an image's path in the user's folder, or such as `train/123`."""
        path, row = self.found.path, int(self.rows[number])
        if path is None:
            part, row = self.records.locate(row)
            return f"{self.splits[part]}/{row}"
        name = self.records.name(row)
        folder = path if path.is_dir() else path.parent
        return name.removeprefix(f"{folder}{os.sep}")

    def place(self, number: int) -> str:
        """Return an image's name or absolute path, however a table writes it."""
        if self.found.path is None:
            return self.name(number)
        return os.path.abspath(self.records.name(int(self.rows[number])))

    def caption(self, number: int) -> str:
        """Return name, split and class, such as `train/cats/1.png (train, cats)`."""
        return f"{self.name(number)} ({self.split(number)}, {self.class_of(number)})"

    def split(self, number: int) -> str:
        """Return the name of an image's split."""
        return self.splits[self.split_index[number]]

    def class_of(self, number: int) -> str:
        """Return the name of an image's class."""
        return self.classes[self.labels[number]]

    def counts(self) -> np.ndarray:
        """Count the images of each class in each split, int64 `[classes, splits]`."""
        counts = np.zeros((len(self.classes), len(self.splits)), np.int64)
        np.add.at(counts, (self.labels, self.split_index), 1)
        return counts

    def picture(self, number: int) -> Image.Image:
        """Decode one image again, upright, in 8 bits, gray or color."""
        info = self.infos[number]
        form = PixelFormat(
            (info.height, info.width),
            channels=1 if info.gray else 3,
            bits=max(8, info.peak.bit_length()),
            background=self.found.background,
        )
        levels = decode(self.records.read([self.rows[number]])[0], form)
        return Image.fromarray(levels.squeeze(-1) if info.gray else levels)


class ConcatenatedRecords:
    """The records of several splits, one after the other."""

    def __init__(self, parts: Sequence[Records]):
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: Sequence[int]) -> list[bytes | Unreadable]:
        """Return the contents of some records, whose rows ascend."""
        contents: list[bytes | Unreadable] = []
        for part, end in zip(self._parts, self._ends, strict=True):
            begin = end - len(part)
            contents += part.read([int(r - begin) for r in rows if begin <= r < end])
        return contents

    def name(self, row: int) -> str:
        """Return the name of a record."""
        part, row = self.locate(row)
        return self._parts[part].name(row)

    def locate(self, row: int) -> tuple[int, int]:
        """Return the number of a record's split, and its row there."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        return number, int(row - self._ends[number] + len(self._parts[number]))


def find(config: DataConfig) -> FoundImages:
    """Find the images of a data set, whether or not they can be trained on.

    Raises:
      UserError: there is no such data set, or the folder is not laid out as one.
    """
    if config.name == "folder":
        listed = find_images(config)
        check_test_fraction(listed.splits, listed.held_out, config)
        path = expand_user(config.path)
        return FoundImages(
            path.resolve().stem if path.is_file() else path.resolve().name,
            listed.classes,
            {split: Files(files.paths) for split, files in listed.splits.items()},
            {split: files.labels for split, files in listed.splits.items()},
            path,
            groups={split: files.groups for split, files in listed.splits.items()},
            background=config.background,
            held_out=listed.held_out,
            notes=listed.notes,
            empty=listed.empty,
            excluded=listed.excluded,
        )
    # A validation split is inspected even if training leaves it out.
    source = data.open_source(
        dataclasses.replace(config, validation=DEFAULT_VALIDATION, protocol="none")
    )
    return FoundImages(
        config.name,
        source.classes,
        {split: source.images(split).records for split in source.splits},
        {split: source.labels(split) for split in source.splits},
        background=config.background,
        notes=source.notes,
    )


def scan(found: FoundImages, config: DataConfig) -> ScannedImages:
    """Decode every image once, on all cores.

    Raises:
      UserError: the images cannot be split, see `make_splits`.
    """
    records = ConcatenatedRecords([*found.records.values()])

    def scan_rows(rows: slice) -> tuple[list[ImageInfo], Fingerprints]:
        contents = records.read(range(len(records))[rows])
        scanned = [
            read_info_and_image(content, config.background) for content in contents
        ]
        return [info for info, _ in scanned], compute_fingerprints(
            [image for _, image in scanned]
        )

    blocks = list(parallel_map(scan_rows, len(records), f"looking at {found.title}"))
    infos = [info for block, _ in blocks for info in block]
    fingerprints = Fingerprints(
        *map(np.concatenate, zip(*(p for _, p in blocks), strict=True))
    )
    labels = np.concatenate([*found.labels.values()])
    good = np.array([not info.error for info in infos])
    parts, excluded, notes, refusal = _used_records(found, good, config)
    rows = np.concatenate(parts)
    images = ScannedImages(
        found,
        records,
        rows,
        np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        labels[rows],
        [infos[row] for row in rows],
        Fingerprints(*(values[rows] for values in fingerprints)),
        [],
        found.notes + notes,
        refusal,
    )
    everything = dataclasses.replace(images, rows=np.arange(len(records)))
    for row in np.setdiff1d(np.flatnonzero(~good), excluded).tolist():
        split = images.splits[records.locate(row)[0]]
        name, reason = everything.name(row), infos[row].error
        images.unreadable.append(UnreadableImage(name, split, int(labels[row]), reason))
    return images


def _used_records(
    found: FoundImages, good: np.ndarray, config: DataConfig
) -> tuple[list[np.ndarray], np.ndarray, tuple[str, ...], str]:
    """Choose the records that are used, as training does.

    Images held out for validation count as training images.

    Args:
      found: all images.
      good: bool `[records]`, whether each can be read.
      config: of the data set.

    Returns:
      The numbers of the records of each split that are used; those of a prepared set
      that the user leaves out; notes; and why training refuses to hold out validation
      images, empty if it does not.
    """
    sizes = [len(records) for records in found.records.values()]
    begins = np.cumsum(sizes) - sizes
    # Training leaves out unreadable files of a folder before it makes splits. The list
    # of exclusions numbers all images of a prepared set.
    numbered = good if config.name == "folder" else np.ones_like(good)
    known = {
        split: begin + np.flatnonzero(numbered[begin : begin + size])
        for split, begin, size in zip(found.records, begins, sizes, strict=True)
    }
    all_labels = np.concatenate([*found.labels.values()])
    labels = {split: all_labels[rows] for split, rows in known.items()}
    kept, _ = exclude_rows(labels, found.classes, config, {})
    excluded = [np.delete(known[split], rows) for split, rows in kept.items()]
    whole = dataclasses.replace(config, validation=0, test=True)
    parts, notes = make_splits(labels, found.classes, whole)
    used = [known[part.source][part.rows] for part in parts.values()]
    rows = [part[good[part]] for part in used]
    groups = found.groups.get("train")
    groups = None if groups is None else groups[numbered[: sizes[0]]]
    try:
        make_splits(labels, found.classes, config, groups)
    except UserError as error:
        return rows, np.concatenate(excluded), notes, str(error)
    return rows, np.concatenate(excluded), notes, ""


def lines_of_repeated(images: ScannedImages) -> dict[str, list[int]]:
    """Return the lines of a table that name one file, by the name of its first image.

    Files that are named once are not among them.
    """
    numbers = collections.defaultdict[str, list[int]](list)
    for number in range(len(images)):
        numbers[images.place(number)].append(number)
    table = images.found.path
    if table is None or len(numbers) == len(images):
        return {}
    lines = collections.defaultdict[str, list[int]](list)
    for line, cells in csv_reader.read(table, ("path",)).rows:
        lines[os.path.abspath(table.parent / cells["path"])].append(line)
    return {
        images.name(same[0]): lines[place]
        for place, same in numbers.items()
        if len(same) > 1
    }


def count_ignored_files(found: FoundImages) -> collections.Counter:
    """Count files below the user's folder, by suffix, that nobody named or listed.

    Hidden folders, and those of systems, are not looked into, as in training.
    """
    if found.path is None or not found.path.is_dir():
        return collections.Counter()
    used = {
        path
        for files in found.records.values()
        if isinstance(files, Files)
        for path in files.paths
    }
    listing = list_below(found.path)
    files = {*listing.images, *listing.others}
    return count_by_suffix(files - used - {*found.excluded})
