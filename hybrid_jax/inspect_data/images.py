"""Every image of a data set, looked at once: facts, fingerprints, what is broken."""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hybrid_jax import data
from hybrid_jax.data.encoded import Files, Records, mapped
from hybrid_jax.data.listing import find_images
from hybrid_jax.data.pixels import Facts, Form, decode, look
from hybrid_jax.errors import UserError
from hybrid_jax.inspect_data.prints import Prints, take_prints
from hybrid_jax.paths import expanded

SPLITS = ("train", "test")


class Found(NamedTuple):
    """Images that nobody has looked at yet, both splits as the source has them.

    Attributes:
      title: what the data set is called.
      classes: their names, in the order of the labels.
      records: of `train` and `test`.
      labels: int32 `[N]` each.
      place: of the user's own images; None of others.
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
    background: str = "white"
    held_out: bool = False
    notes: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


class Broken(NamedTuple):
    """An image that cannot be read."""

    name: str
    tested: bool
    label: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Images:
    """The images that are trained and tested on, the training images first.

    Attributes:
      found: where they come from.
      records: of both splits, one after the other.
      rows: int64 `[N]`, which of the records.
      tested: bool `[N]`.
      labels: int32 `[N]`.
      facts: of each.
      prints: of each.
      broken: what cannot be read and is therefore not among them.
      notes: what was left out on purpose.
    """

    found: Found
    records: "Joined"
    rows: np.ndarray
    tested: np.ndarray
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

    def name(self, number: int) -> str:
        """The file, from the user's folder on; of others `train/123`, a split's row."""
        place, row = self.found.place, int(self.rows[number])
        if place is None:
            begun = len(self.found.records["train"])
            return f"test/{row - begun}" if row >= begun else f"train/{row}"
        name = self.records.name(row)
        folder = place if place.is_dir() else place.parent
        return name.removeprefix(f"{folder}{os.sep}")

    def described(self, number: int) -> str:
        """`train/cats/1.png (train, cats)`."""
        return f"{self.name(number)} ({self.split(number)}, {self.class_of(number)})"

    def split(self, number: int) -> str:
        return SPLITS[int(self.tested[number])]

    def class_of(self, number: int) -> str:
        return self.classes[self.labels[number]]

    def counts(self) -> np.ndarray:
        """Images of each class in `train` and `test`, int64 `[classes, 2]`."""
        counts = np.zeros((len(self.classes), 2), np.int64)
        np.add.at(counts, (self.labels, self.tested.astype(int)), 1)
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
        number = int(np.searchsorted(self._ends, row, side="right"))
        part = self._parts[number]
        return part.name(int(row - self._ends[number] + len(part)))


def find(options: data.Options) -> Found:
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
            options.path, options.test_fraction, options.split_seed, options.exclude
        )
        place = expanded(options.path)
        return Found(
            place.resolve().stem if place.is_file() else place.resolve().name,
            listed.classes,
            {split: Files(getattr(listed, split).paths) for split in SPLITS},
            {split: getattr(listed, split).labels for split in SPLITS},
            place,
            background=options.background,
            held_out=listed.held_out,
            notes=listed.notes,
            empty=listed.empty,
        )
    source = data.open_source(options)
    return Found(
        options.name,
        source.classes,
        {split: source.images(split).records for split in SPLITS},
        {split: source.labels(split) for split in SPLITS},
        background=options.background,
        notes=source.notes,
    )


def look_at(found: Found, options: data.Options) -> Images:
    """Decodes every image once, on all cores.

    Raises:
      UserError: of `data.divide`.
    """
    records = Joined([found.records[split] for split in SPLITS])

    def look_at_some(rows: slice) -> tuple[list[Facts], Prints]:
        contents = records.read(range(len(records))[rows])
        looks = [look(content, options.background) for content in contents]
        return [facts for facts, _ in looks], take_prints([image for _, image in looks])

    blocks = list(mapped(look_at_some, len(records), f"looking at {found.title}"))
    facts = [fact for block, _ in blocks for fact in block]
    prints = Prints(*map(np.concatenate, zip(*(p for _, p in blocks), strict=True)))
    begun = len(found.records["train"])
    labels = np.concatenate([found.labels[split] for split in SPLITS])
    good = np.array([not fact.error for fact in facts])
    readable = {
        "train": np.flatnonzero(good[:begun]),
        "test": begun + np.flatnonzero(good[begun:]),
    }
    # Training leaves out what cannot be read before it divides the rest.
    parts, notes = data.divide(lambda split: labels[readable[split]], options)
    train, test = (readable[split][rows] for split, rows in parts.values())
    rows = np.concatenate([train, test])
    images = Images(
        found,
        records,
        rows,
        np.arange(len(rows)) >= len(train),
        labels[rows],
        [facts[row] for row in rows],
        Prints(*(values[rows] for values in prints)),
        [],
        found.notes + notes,
    )
    everything = dataclasses.replace(images, rows=np.arange(len(records)))
    images.broken.extend(
        Broken(
            everything.name(row), bool(row >= begun), int(labels[row]), facts[row].error
        )
        for row in np.flatnonzero(~good)
    )
    return images


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
