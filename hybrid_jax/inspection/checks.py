"""What may be wrong with a data set, a row each, and whether it spoils results."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.group_splitting import shared
from hybrid_jax.data.image_io import FORMATS, SUFFIXES
from hybrid_jax.data.sources.file_list import alike, meant
from hybrid_jax.inspection import near_duplicates
from hybrid_jax.inspection.near_duplicates import (
    BY_FEATURES,
    PROBABLE,
    SAME,
    SURE,
    Copies,
    Pair,
)
from hybrid_jax.inspection.scan import Broken, Images

SPOILS, NOTICE = "spoils", "notice"
UNEVEN = 10  # times as many images in one class as in another
FEW = 10  # training images a class
KINDS = {"train": "training", "validation": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What the checks look at; copies are searched for once, when first asked for."""

    images: Images
    options: DataConfig
    run: str = ""  # of a network whose features are compared too

    @functools.cached_property
    def copies(self) -> Copies:
        """The exact ones, and then the near ones, the most alike first."""
        exact, near = (
            near_duplicates.exact(self.images),
            near_duplicates.near(self.images),
        )
        across, within = exact.across + near.across, exact.within + near.within
        if self.run:
            # It brings networks with it, which nobody else here needs.
            from hybrid_jax.inspection import features

            known = {pair[:2] for pair in across + within}
            pairs = features.find(self.run, self.images)
            new = [pair for pair in pairs if pair[:2] not in known]
            more = near_duplicates.divided(new, self.images.of_split)
            across, within = across + more.across, within + more.within
        return Copies(across, within)


class Item(NamedTuple):
    """One thing that a check found, in words, and the pair of images that it is."""

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
    """A check that found something."""

    check: Check
    items: list[Item]


def run_checks(inspection: Inspection) -> list[Finding]:
    """What the checks found, in their order."""
    findings = (Finding(check, [*check.find(inspection)]) for check in CHECKS)
    return [finding for finding in findings if finding.items]


def _unreadable(skipped: bool) -> Callable[[Inspection], Iterable[Item]]:
    def find(inspection: Inspection) -> Iterable[Item]:
        skips = inspection.options.on_error == "skip"
        held_out = inspection.images.found.held_out
        for broken in inspection.images.broken:
            may_skip = held_out or broken.split == "train"
            if (skips and may_skip) == skipped:
                yield Item(_described(broken, inspection.images))

    return find


def _described(broken: Broken, images: Images) -> str:
    where = f"{broken.split}, {images.classes[broken.label]}"
    return f"{broken.name} ({where}): {broken.reason}"


def _empty(inspection: Inspection) -> Iterable[Item]:
    return map(Item, inspection.images.found.empty)


def _alike(inspection: Inspection) -> Iterable[Item]:
    return map(Item, alike(inspection.images.classes))


def _without(split: str) -> Callable[[Inspection], Iterable[Item]]:
    def find(inspection: Inspection) -> Iterable[Item]:
        images = inspection.images
        if split not in images.splits:
            return
        counts, place = images.counts(), images.splits.index(split)
        for label in np.flatnonzero(counts[:, place] == 0):
            mine = zip(images.splits, counts[label].tolist(), strict=True)
            has = [
                f"{count:,} {KINDS[other]} image{'s' * (count > 1)}"
                for other, count in mine
                if count
            ]
            # A slip leaves the right name here, and not where the wrong one is.
            lacks = (counts[:, counts[label] > 0] == 0).any(1)
            only = (counts[:, place] > 0) & lacks
            slip = meant(images.classes[label], np.array(images.classes)[only])
            yield Item(
                f"{images.classes[label]!r} has {' and '.join(has) or 'no image'}{slip}"
            )

    return find


def _shared_groups(inspection: Inspection) -> Iterable[Item]:
    return map(Item, shared(inspection.images.found.groups))


def _across(band: str) -> Callable[[Inspection], Iterable[Item]]:
    def find(inspection: Inspection) -> Iterable[Item]:
        return _items(inspection.images, inspection.copies.across, band)

    return find


def _within(band: str, contradict: bool) -> Callable[[Inspection], Iterable[Item]]:
    def find(inspection: Inspection) -> Iterable[Item]:
        labels = inspection.images.labels
        pairs = [
            pair
            for pair in inspection.copies.within
            if (labels[pair.first] != labels[pair.second]) == contradict
        ]
        return _items(inspection.images, pairs, band)

    return find


def _items(images: Images, pairs: list[Pair], band: str) -> Iterable[Item]:
    """Of every second image the pair that is most alike, if it is of this band."""
    best: dict[int, Pair] = {}
    for pair in pairs:
        best.setdefault(pair.second, pair)
    for pair in best.values():
        if pair.band != band:
            continue
        sign, more = ("=", "") if band == SAME else ("~", f": {pair.described}")
        first, second = images.described(pair.first), images.described(pair.second)
        yield Item(f"{second} {sign} {first}{more}", pair)


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
    if not inspection.options.image_size:
        return
    height, width = inspection.options.image_size
    for number, facts in enumerate(inspection.images.facts):
        if 2 * facts.height < height or 2 * facts.width < width:
            name = inspection.images.described(number)
            yield Item(f"{name}: {facts.height}x{facts.width} for {height}x{width}")


def _misnamed(inspection: Inspection) -> Iterable[Item]:
    for number, facts in enumerate(inspection.images.facts):
        suffix = PurePath(inspection.images.name(number)).suffix.lower()
        kind = "JPEG" if facts.format == "MPO" else facts.format
        if suffix in SUFFIXES and suffix not in FORMATS[kind]:
            yield Item(f"{inspection.images.described(number)}: it is {facts.format}")


def _blank(inspection: Inspection) -> Iterable[Item]:
    images = inspection.images
    for number in np.flatnonzero(near_duplicates.contrast(images) < 0.01):
        yield Item(images.described(int(number)))


def _sizes(inspection: Inspection) -> Iterable[Item]:
    sizes = {(facts.height, facts.width) for facts in inspection.images.facts}
    if len(sizes) > 1 and not inspection.options.image_size:
        (h, w), (tall, wide) = min(sizes), max(sizes)
        yield Item(f"{len(sizes)} sizes from {h}x{w} to {tall}x{wide}")


CHECKS = (
    Check(
        "images that cannot be read",
        SPOILS,
        _unreadable(skipped=False),
        "mend or remove them, or list them in a file for config.data.exclude; "
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
        "a slip makes two classes of one: give them one name",
    ),
    Check(
        "classes without training images",
        SPOILS,
        _without("train"),
        "nothing can learn them: often a slip in the name of a folder",
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
        "groups in two splits",
        SPOILS,
        _shared_groups,
        "what belongs together would be trained and tested on: keep it in one split",
    ),
    Check(
        "images that are in two splits",
        SPOILS,
        _across(SAME),
        "the accuracy would be too high: remove them from one of the splits",
    ),
    Check(
        "copies with different labels",
        SPOILS,
        _within(SAME, contradict=True),
        "one label is wrong: remove the image with it",
    ),
    Check(
        "images that look like one of another split",
        SPOILS,
        _across(SURE),
        "look at duplicates.png, and keep what shows one thing in one split: "
        "near_copies.csv lists those to leave out",
    ),
    Check(
        "images that may show what one of another split shows",
        NOTICE,
        _across(PROBABLE),
        "look at duplicates.png: in CIFAR-10 most were copies, in plainer sets few",
    ),
    Check(
        "images whose features are those of one of another split",
        NOTICE,
        _across(BY_FEATURES),
        "look at duplicates.png: the network of --workdir finds them alike",
    ),
    Check(
        "near copies with different labels",
        NOTICE,
        _within(SURE, contradict=True),
        "look at duplicates.png: a label may be wrong",
    ),
    Check(
        "copies within a split",
        NOTICE,
        _within(SAME, contradict=False),
        "they count twice",
    ),
    Check(
        "near copies within a split",
        NOTICE,
        _within(SURE, contradict=False),
        "they nearly count twice",
    ),
    Check(
        "images that cannot be read and are skipped",
        NOTICE,
        _unreadable(skipped=True),
        "as config.data.on_error=skip asks for",
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
        "few to learn from",
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
        "they are read as what they are",
    ),
    Check(
        "images of several sizes and no config.data.image_size",
        NOTICE,
        _sizes,
        "training will ask for one, such as --config.data.image_size=64,64",
    ),
)
