"""Checks of a data set, a row each. To add a check, add a row to `CHECKS`."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.dataset import images_of_split
from hybrid_jax.data.image_io import FORMATS, SUFFIXES
from hybrid_jax.data.names import similar_names, suggestion
from hybrid_jax.data.subsets import shared_groups
from hybrid_jax.errors import plural
from hybrid_jax.inspection import near_duplicates
from hybrid_jax.inspection.copies import best_pairs, find_copies
from hybrid_jax.inspection.near_duplicates import (
    BY_FEATURES,
    PROBABLE,
    SAME,
    SURE,
    Copies,
    Pair,
)
from hybrid_jax.inspection.scan import (
    ScannedImages,
    UnreadableImage,
    lines_of_repeated,
)

SPOILS, NOTICE = "spoils", "notice"
UNEVEN = 10  # times as many images in one class as in another
FEW = 10  # training images a class


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The input of all checks; copies are searched for at the first access."""

    images: ScannedImages
    config: DataConfig
    run: str = ""  # workdir of a network whose features are compared too

    @functools.cached_property
    def copies(self) -> Copies:
        """Exact copies, and then near copies, the most similar first."""
        return find_copies(self.images, self.run)


class Item(NamedTuple):
    """One thing that a check found, in words, with its pair of images if it has one."""

    text: str
    pair: Pair | None = None


class Check(NamedTuple):
    """A row of `CHECKS`.

    Attributes:
      name: what is wrong, in the plural.
      severity: `SPOILS` or `NOTICE`.
      find: what the check finds.
      way_out: what it means, and what to do.
    """

    name: str
    severity: str
    find: Callable[[Inspection], Iterable[Item]]
    way_out: str


class Finding(NamedTuple):
    """A check that found something, with the items that it found."""

    check: Check
    items: list[Item]


def run_checks(inspection: Inspection) -> list[Finding]:
    """Return the findings of all checks, in the order of `CHECKS`."""
    findings = (Finding(check, [*check.find(inspection)]) for check in CHECKS)
    return [finding for finding in findings if finding.items]


def _unreadable(skipped: bool) -> Callable[[Inspection], Iterable[Item]]:
    def find(inspection: Inspection) -> Iterable[Item]:
        skips_errors = inspection.config.on_error == "skip"
        held_out = inspection.images.found.held_out
        for unreadable in inspection.images.unreadable:
            may_skip = held_out or unreadable.split == "train"
            if (skips_errors and may_skip) == skipped:
                yield Item(_caption(unreadable, inspection.images))

    return find


def _caption(unreadable: UnreadableImage, images: ScannedImages) -> str:
    where = f"{unreadable.split}, {images.classes[unreadable.label]}"
    return f"{unreadable.name} ({where}): {unreadable.reason}"


def _empty(inspection: Inspection) -> Iterable[Item]:
    return map(Item, inspection.images.found.empty)


def _alike(inspection: Inspection) -> Iterable[Item]:
    return map(Item, similar_names(inspection.images.classes))


def _without(split: str) -> Callable[[Inspection], Iterable[Item]]:
    def find(inspection: Inspection) -> Iterable[Item]:
        images = inspection.images
        if split not in images.splits:
            return
        counts, column = images.counts(), images.splits.index(split)
        for label in np.flatnonzero(counts[:, column] == 0):
            counts_by_split = zip(images.splits, counts[label].tolist(), strict=True)
            has = [
                plural(count, images_of_split(other).removesuffix("s"))
                for other, count in counts_by_split
                if count
            ]
            # A misspelled class is missing where its right name is found.
            lacks = (counts[:, counts[label] > 0] == 0).any(1)
            only = (counts[:, column] > 0) & lacks
            slip = suggestion(images.classes[label], np.array(images.classes)[only])
            yield Item(
                f"{images.classes[label]!r} has {' and '.join(has) or 'no image'}{slip}"
            )

    return find


def _shared_groups(inspection: Inspection) -> Iterable[Item]:
    return map(Item, shared_groups(inspection.images.found.groups))


def _copies_between_splits(band: str) -> Callable[[Inspection], Iterable[Item]]:
    def find(inspection: Inspection) -> Iterable[Item]:
        return _items(inspection.images, inspection.copies.between_splits, band)

    return find


def _copies_within_split(
    band: str, contradict: bool
) -> Callable[[Inspection], Iterable[Item]]:
    def find(inspection: Inspection) -> Iterable[Item]:
        labels = inspection.images.labels
        pairs = [
            pair
            for pair in inspection.copies.within_split
            if (labels[pair.first] != labels[pair.second]) == contradict
        ]
        return _items(inspection.images, pairs, band)

    return find


def _items(images: ScannedImages, pairs: list[Pair], band: str) -> Iterable[Item]:
    for pair in best_pairs(images, pairs, band):
        sign, more = ("=", "") if band == SAME else ("~", f": {pair.summary}")
        first, second = images.caption(pair.first), images.caption(pair.second)
        yield Item(f"{second} {sign} {first}{more}", pair)


def _named_twice(inspection: Inspection) -> Iterable[Item]:
    for name, lines in lines_of_repeated(inspection.images).items():
        yield Item(f"{name}: lines {' and '.join(map(str, lines))}")


def _uneven(inspection: Inspection) -> Iterable[Item]:
    images, counts = inspection.images, inspection.images.counts()[:, 0]
    most, least = int(counts.argmax()), int(counts.argmin())
    if 0 < counts[least] * UNEVEN < counts[most]:
        yield Item(
            f"{images.classes[most]!r} has {counts[most]:,} training images, "
            f"{images.classes[least]!r} has {counts[least]:,}"
        )


def _few(inspection: Inspection) -> Iterable[Item]:
    images = inspection.images
    for label, count in enumerate(images.counts()[:, 0]):
        if 0 < count < FEW:
            yield Item(f"{images.classes[label]!r} has {count}")


def _small(inspection: Inspection) -> Iterable[Item]:
    if not inspection.config.image_size:
        return
    height, width = inspection.config.image_size
    for number, info in enumerate(inspection.images.infos):
        if 2 * info.height < height or 2 * info.width < width:
            name = inspection.images.caption(number)
            yield Item(f"{name}: {info.height}x{info.width} for {height}x{width}")


def _misnamed(inspection: Inspection) -> Iterable[Item]:
    for number, info in enumerate(inspection.images.infos):
        suffix = PurePath(inspection.images.name(number)).suffix.lower()
        kind = "JPEG" if info.format == "MPO" else info.format
        if suffix in SUFFIXES and suffix not in FORMATS[kind]:
            yield Item(f"{inspection.images.caption(number)}: it is {info.format}")


def _blank(inspection: Inspection) -> Iterable[Item]:
    images = inspection.images
    for number in np.flatnonzero(near_duplicates.contrast(images) < 0.01):
        yield Item(images.caption(int(number)))


def _refused(inspection: Inspection) -> Iterable[Item]:
    if inspection.images.refusal:
        yield Item(inspection.images.refusal)


def _sizes(inspection: Inspection) -> Iterable[Item]:
    sizes = {(info.height, info.width) for info in inspection.images.infos}
    if len(sizes) > 1 and not inspection.config.image_size:
        (h, w), (tall, wide) = min(sizes), max(sizes)
        yield Item(f"{len(sizes)} sizes from {h}x{w} to {tall}x{wide}")


CHECKS = (
    Check(
        "images that cannot be read",
        SPOILS,
        _unreadable(skipped=False),
        "repair or remove them, or list them in a file for config.data.exclude; "
        "config.data.on_error=skip leaves them out, but not of your own test or "
        "validation split",
    ),
    Check(
        "class folders without images",
        SPOILS,
        _empty,
        "add images, remove the folder, or list it in a file for config.data.exclude",
    ),
    Check(
        "class names that differ in case or spaces alone",
        SPOILS,
        _alike,
        "a misspelled name splits a class in two: give both the same name",
    ),
    Check(
        "classes without training images",
        SPOILS,
        _without("train"),
        "no network can learn them: often the name of a folder is misspelled",
    ),
    Check(
        "classes without test images",
        SPOILS,
        _without("test"),
        "the accuracy would say nothing about them",
    ),
    Check(
        "classes without validation images",
        NOTICE,
        _without("validation"),
        "the best weights are chosen without them",
    ),
    Check(
        "splits that cannot be made",
        NOTICE,
        _refused,
        "training will refuse the images as they are",
    ),
    Check(
        "groups in two splits",
        SPOILS,
        _shared_groups,
        "a network would be tested on groups that it was trained on: keep each group "
        "in one split",
    ),
    Check(
        "images that are in two splits",
        SPOILS,
        _copies_between_splits(SAME),
        "the accuracy would be too high: remove them from one of the splits",
    ),
    Check(
        "copies with different labels",
        SPOILS,
        _copies_within_split(SAME, contradict=True),
        "one label is wrong: remove the image that has it",
    ),
    Check(
        "images that look like one of another split",
        SPOILS,
        _copies_between_splits(SURE),
        "look at duplicates.png, and keep what shows one thing in one split: "
        "near_copies.csv lists those to leave out",
    ),
    Check(
        "possible copies of images of another split",
        NOTICE,
        _copies_between_splits(PROBABLE),
        "look at duplicates.png: most are copies among photographs, and few among "
        "plainer images",
    ),
    Check(
        "images whose features are those of one of another split",
        NOTICE,
        _copies_between_splits(BY_FEATURES),
        "look at duplicates.png: the network of --workdir finds them alike",
    ),
    Check(
        "near copies with different labels",
        NOTICE,
        _copies_within_split(SURE, contradict=True),
        "look at duplicates.png: a label may be wrong",
    ),
    Check(
        "copies within a split",
        NOTICE,
        _copies_within_split(SAME, contradict=False),
        "they count twice",
    ),
    Check(
        "near copies within a split",
        NOTICE,
        _copies_within_split(SURE, contradict=False),
        "they nearly count twice",
    ),
    Check(
        "images that cannot be read and are skipped",
        NOTICE,
        _unreadable(skipped=True),
        "as config.data.on_error=skip asks for",
    ),
    Check(
        "images that a table names twice",
        NOTICE,
        _named_twice,
        "remove all rows but one from the table: a list for config.data.exclude would "
        "leave out all of them",
    ),
    Check("images of one level", NOTICE, _blank, "they show nothing"),
    Check(
        "uneven classes",
        NOTICE,
        _uneven,
        f"more than {UNEVEN} times as many: look at the accuracy of each class",
    ),
    Check(
        f"classes of fewer than {FEW} training images",
        NOTICE,
        _few,
        "these are few to learn from",
    ),
    Check(
        "images less than half as large as config.data.image_size",
        NOTICE,
        _small,
        "they will be blurred; a smaller size trains faster",
    ),
    Check(
        "names that say another format",
        NOTICE,
        _misnamed,
        "they are read in the format that they have",
    ),
    Check(
        "images of several sizes and no config.data.image_size",
        NOTICE,
        _sizes,
        "training will ask for one, such as --config.data.image_size=64,64",
    ),
)
