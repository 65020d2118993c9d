"""Every image of a data set, looked at once: facts, fingerprints, what is broken."""

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
from hybrid_jax.data.image_io import Facts, Form, decode, look
from hybrid_jax.data.lazy_images import Files, Records, mapped
from hybrid_jax.data.sources.file_list import find_images
from hybrid_jax.data.splitting import DEFAULT, divide
from hybrid_jax.errors import UserError
from hybrid_jax.inspection.fingerprints import Prints, take_prints
from hybrid_jax.paths import expanded


class Found(NamedTuple):
    """Images that nobody has looked at yet, all splits as the source has them.

    Attributes:
      title: what the data set is called.
      classes: their names, in the order of the labels.
      records: of each split, `train` first.
      labels: int32 `[N]` of each split.
      place: of the user's own images; None of others.
      groups: what belongs together in each split, where anything says so.
      background: color behind what is transparent.
      held_out: whether the test split is a share that was held out here.
      notes: in words, what was left out.
      empty: in words, each class folder without images.
    """

    title: str
    classes: tuple[str, ...]
    records: dict[str, Records]
    labels: dict[str, np.ndarray]
    place: Path | None = None
    groups: Mapping[str, np.ndarray | None] = MappingProxyType({})
    background: str = "white"
    held_out: bool = False
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


class Broken(NamedTuple):
    """An image that cannot be read."""

    name: str
    split: str
    label: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Images:
    """The images that are used, the training images first.

    Attributes:
      found: where they come from.
      records: of all splits, one after the other.
      rows: int64 `[N]`, which of the records.
      of_split: int64 `[N]`, the split of each, a place of `splits`.
      labels: int32 `[N]`.
      facts: of each.
      prints: of each.
      broken: what cannot be read and is therefore not among them.
      notes: what was left out on purpose.
    """

    found: Found
    records: "Joined"
    rows: np.ndarray
    of_split: np.ndarray
    labels: np.ndarray
    facts: list[Facts]
    prints: Prints
    broken: list[Broken]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.found.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order of their images."""
        return tuple(self.found.records)

    def name(self, number: int) -> str:
        """The file, from the user's folder on; of others `train/123`, a split's row."""
        place, row = self.found.place, int(self.rows[number])
        if place is None:
            part, row = self.records.place(row)
            return f"{self.splits[part]}/{row}"
        name = self.records.name(row)
        folder = place if place.is_dir() else place.parent
        return name.removeprefix(f"{folder}{os.sep}")

    def described(self, number: int) -> str:
        """`train/cats/1.png (train, cats)`."""
        return f"{self.name(number)} ({self.split(number)}, {self.class_of(number)})"

    def split(self, number: int) -> str:
        return self.splits[self.of_split[number]]

    def class_of(self, number: int) -> str:
        return self.classes[self.labels[number]]

    def counts(self) -> np.ndarray:
        """Images of each class in each split, int64 `[classes, splits]`."""
        counts = np.zeros((len(self.classes), len(self.splits)), np.int64)
        np.add.at(counts, (self.labels, self.of_split), 1)
        return counts

    def picture(self, number: int) -> Image.Image:
        """One image, upright, in 8 bits, gray or color; decoded again."""
        facts = self.facts[number]
        form = Form(
            (facts.height, facts.width),
            channels=1 if facts.gray else 3,
            bits=max(8, facts.peak.bit_length()),
            background=self.found.background,
        )
        levels = decode(self.records.read([self.rows[number]])[0], form)
        return Image.fromarray(levels.squeeze(-1) if facts.gray else levels)


class Joined:
    """Records of several splits, one after the other."""

    def __init__(self, parts: Sequence[Records]):
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """Contents of some records; their rows ascend."""
        contents = []
        for part, end in zip(self._parts, self._ends, strict=True):
            begin = end - len(part)
            contents += part.read([int(r - begin) for r in rows if begin <= r < end])
        return contents

    def name(self, row: int) -> str:
        part, row = self.place(row)
        return self._parts[part].name(row)

    def place(self, row: int) -> tuple[int, int]:
        """The number of a record's part, and its row there."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        return number, int(row - self._ends[number] + len(self._parts[number]))


def find(options: DataConfig) -> Found:
    """Where the images are; of the user's own, whatever a training would say to them.

    Raises:
      UserError: there is no such data set, or no folder laid out as one.
    """
    if options.name == "folder":
        if not options.path:
            raise UserError(
                "config.data.path is missing: give the folder of your images, or a .csv"
            )
        listed = find_images(
            options.path,
            options.test_fraction,
            options.split_seed,
            exclude=options.exclude,
            group=options.group,
        )
        place = expanded(options.path)
        return Found(
            place.resolve().stem if place.is_file() else place.resolve().name,
            listed.classes,
            {split: Files(of.paths) for split, of in listed.splits.items()},
            {split: of.labels for split, of in listed.splits.items()},
            place,
            groups={split: of.groups for split, of in listed.splits.items()},
            background=options.background,
            held_out=listed.held_out,
            notes=listed.notes,
            empty=listed.empty,
        )
    # A validation split is looked at though it may be left out.
    source = data.open_source(dataclasses.replace(options, validation=DEFAULT))
    return Found(
        options.name,
        source.classes,
        {split: source.images(split).records for split in source.splits},
        {split: source.labels(split) for split in source.splits},
        background=options.background,
        notes=source.notes,
    )


def look_at(found: Found, options: DataConfig) -> Images:
    """Decodes every image once, on all cores.

    Raises:
      UserError: of `divide`.
    """
    records = Joined([*found.records.values()])

    def look_at_some(rows: slice) -> tuple[list[Facts], Prints]:
        contents = records.read(range(len(records))[rows])
        looks = [look(content, options.background) for content in contents]
        return [facts for facts, _ in looks], take_prints([image for _, image in looks])

    blocks = list(mapped(look_at_some, len(records), f"looking at {found.title}"))
    facts = [fact for block, _ in blocks for fact in block]
    prints = Prints(*map(np.concatenate, zip(*(p for _, p in blocks), strict=True)))
    labels = np.concatenate([*found.labels.values()])
    good = np.array([not fact.error for fact in facts])
    parts, notes = _used(found, good, options)
    rows = np.concatenate(parts)
    images = Images(
        found,
        records,
        rows,
        np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        labels[rows],
        [facts[row] for row in rows],
        Prints(*(values[rows] for values in prints)),
        [],
        found.notes + notes,
    )
    everything = dataclasses.replace(images, rows=np.arange(len(records)))
    for row in np.flatnonzero(~good):
        split = images.splits[records.place(row)[0]]
        name, reason = everything.name(row), facts[row].error
        images.broken.append(Broken(name, split, int(labels[row]), reason))
    return images


def _used(
    found: Found, good: np.ndarray, options: DataConfig
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Which records of each split are used, and notes.

    A share for validation stays with the training images that it is of.

    Args:
      found: all images.
      good: bool `[records]`, which can be read.
      options: of the data set.
    """
    sizes = [len(records) for records in found.records.values()]
    begins = np.cumsum(sizes) - sizes
    # Training leaves out what cannot be read before it divides the rest.
    readable = {
        split: begin + np.flatnonzero(good[begin : begin + size])
        for split, begin, size in zip(found.records, begins, sizes, strict=True)
    }
    labels = np.concatenate([*found.labels.values()])
    options = dataclasses.replace(options, validation=0)
    labels = {split: labels[rows] for split, rows in readable.items()}
    parts, notes = divide(labels, found.classes, options)
    return [readable[part.source][part.rows] for part in parts.values()], notes


def ignored(found: Found) -> collections.Counter:
    """How many files below the user's folder are none of its images, by suffix."""
    if found.place is None or not found.place.is_dir():
        return collections.Counter()
    used = {str(path) for files in found.records.values() for path in files.paths}
    return collections.Counter(
        Path(name).suffix.lower() or "without suffix"
        for folder, _, names in os.walk(found.place)
        for name in names
        if os.path.join(folder, name) not in used and not name.startswith(".")
    )
