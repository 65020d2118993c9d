"""Other images than a run was trained on, in the run's pixel form.

With labels, to evaluate them (`labelled`); without, to predict them (`find`,
`batches`). Nothing is written anywhere.
"""

import collections
import dataclasses
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.data.dataset import Split, Undecoded
from hybrid_jax.data.extents import ROOM, extents_of
from hybrid_jax.data.image_io import Facts, Form, Unreadable, decode, size_of
from hybrid_jax.data.lazy_images import (
    Encoded,
    Files,
    content_of,
    decode_into,
    look_through,
    refuse_unreadable,
)
from hybrid_jax.data.sources.class_folders import images_below, read_folder_split
from hybrid_jax.data.sources.csv_table import read_table_split
from hybrid_jax.data.sources.file_list import class_name, meant
from hybrid_jax.data.sources.folder import skipped_note
from hybrid_jax.errors import UserError, counted, shown
from hybrid_jax.paths import check_local, expanded

NAMED_AT_MOST = 5
AHEAD = 2  # batches that are decoded while one is looked at


class Labelled(NamedTuple):
    """Images with labels: the split, the file of each image, and notes for the user."""

    split: Split
    paths: list[Path]
    notes: tuple[str, ...]


class Batch(NamedTuple):
    """Images without labels.

    Attributes:
      paths: their files.
      images: uint8 `[n, H, W, C]`; zeros where an image cannot be read.
      extents: int32 `[n, 2]`, height and width that each image fills; None if all do.
      errors: why each image cannot be read; empty if it can.
    """

    paths: list[Path]
    images: np.ndarray
    extents: np.ndarray | None
    errors: list[str]


def labelled(
    path: str,
    form: Form,
    classes: Sequence[str],
    split: str = "",
    on_error: str = "stop",
    loader: str = "auto",
) -> Labelled:
    """Images of a folder of class folders or of a table, with labels.

    Args:
      path: of the folder or the table.
      form: of the run.
      classes: names, in the order of the run's labels.
      split: `train`, `validation` or `test`, where the images are split.
      on_error: `stop` at images that cannot be read, or `skip` them.
      loader: row of `config.data.loader`.

    Raises:
      UserError: there are no such images, some are of no class of the run, or some
        cannot be read.
    """
    from hybrid_jax.data.memory_budget import is_resident

    place = expanded(path)
    check_local("path", path)
    if not place.exists():
        raise UserError(f"{shown(path)} does not exist")
    read = read_folder_split if place.is_dir() else read_table_split
    entries, notes, empty, _ = read(place, split)
    labels = _labels(place, [class_name(entry.label) for entry in entries], classes)
    paths = [entry.path for entry in entries]
    facts = look_through(Files(paths), shown(place.name))
    if on_error != "skip":
        way_out = "mend or remove them, or skip them (--on-error=skip)"
        refuse_unreadable(Files(paths), facts, shown(place.name), way_out)
    good = np.flatnonzero([not fact.error for fact in facts])
    skipped = [
        f"{shown(path)}: {fact.error}"
        for path, fact in zip(paths, facts, strict=True)
        if fact.error
    ]
    if not len(good):
        raise UserError(f"{shown(place)} has no image that can be read")
    paths, facts = [paths[row] for row in good], [facts[row] for row in good]
    sizes = np.array([fact[:2] for fact in facts], np.int32)
    images = Encoded(Files(paths), roomy(form), np.arange(len(paths)), sizes)
    notes = (*notes, *empty, *skipped_note(skipped), *_gray_note(facts, form))
    notes += _absent_note(labels[good], classes)
    made = _split(images, labels[good], is_resident(loader, [images]), place)
    return Labelled(made, paths, notes)


def find(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """Image files that are named by their paths, by folders, or by patterns.

    A folder stands for all images below it, in the order of their paths. A pattern such
    as `cells/*.png` is one where no such file exists.

    Raises:
      UserError: names what is not there, or holds no image.
    """
    found: dict[Path, None] = {}
    for given in paths:
        check_local("path", os.fspath(given))
        path = expanded(given)
        if os.path.lexists(path):
            places = [path]
        elif glob.has_magic(os.fspath(given)):
            places = sorted(map(Path, glob.glob(str(path), recursive=True)))
            if not places:
                raise UserError(f"{shown(given)} matches no file")
        else:
            raise UserError(f"{shown(given)} does not exist")
        below = [f for p in places for f in (images_below(p) if p.is_dir() else [p])]
        if not below:
            raise UserError(f"{shown(given)} holds no image")
        found |= dict.fromkeys(below)
    if not found:
        raise UserError("no image is named: give files, folders or patterns")
    return [*found]


def batches(paths: Sequence[Path], form: Form, size: int) -> Iterator[Batch]:
    """Decodes image files on all cores, some batches ahead.

    Args:
      paths: of the files.
      form: of the run.
      size: images of a batch, at most; the last one may have fewer.
    """
    form = roomy(form)
    starts = iter(range(0, len(paths), size))
    waiting: collections.deque[tuple[list[Path], list[Future]]] = collections.deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def send() -> None:
            if (start := next(starts, None)) is not None:
                some = [*paths[start : start + size]]
                waiting.append((some, [pool.submit(_decoded, p, form) for p in some]))

        for _ in range(1 + AHEAD):
            send()
        try:
            while waiting:
                some, futures = waiting.popleft()
                yield _batch(some, [future.result() for future in futures], form)
                send()
        finally:
            pool.shutdown(cancel_futures=True)


def roomy(form: Form) -> Form:
    """A form with room for images of any size, where those are kept whole."""
    if form.target is None:
        return form
    height, width = form.target
    return dataclasses.replace(form, size=(ROOM * height, ROOM * width))


def _decoded(path: Path, form: Form) -> tuple[np.ndarray | None, np.ndarray, str]:
    """Pixels, extent and error of a file; without an error the last is empty."""
    extent = np.array(form.size, np.int32)
    try:
        content = content_of(path)
        if form.target is not None:
            sizes = np.array([size_of(content)])
            (extent,) = extents_of(sizes, form.target, form.fit)
        whole = extent if form.target is not None else None
        return decode(content, form, whole), extent, ""
    except Unreadable as error:
        return None, extent, str(error)


def _batch(paths: list[Path], decoded: list[tuple], form: Form) -> Batch:
    images = np.zeros((len(paths), *form.size, form.channels), np.uint8)
    for row, (pixels, _, _) in enumerate(decoded):
        if pixels is not None:
            images[row] = pixels
    extents = None if form.target is None else np.stack([e for _, e, _ in decoded])
    return Batch(paths, images, extents, [error for *_, error in decoded])


def _labels(place: Path, names: list[str], classes: Sequence[str]) -> np.ndarray:
    """Labels int32 `[N]` of images whose classes are named."""
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = collections.Counter(name for name in names if name not in numbers)
    if unknown:
        listed = [
            f"{name!r} ({counted(count, 'image')}{meant(name, classes)})"
            for name, count in [*unknown.items()][:NAMED_AT_MOST]
        ]
        more = len(unknown) - len(listed)
        known = ", ".join(map(repr, classes[:NAMED_AT_MOST]))
        raise UserError(
            f"{shown(place)} has classes that the run does not know: "
            + ", ".join(listed)
            + (f", and {more} more" if more else "")
            + f"; those of the run are {known}"
            + (", …" if len(classes) > NAMED_AT_MOST else "")
        )
    return np.array([numbers[name] for name in names], np.int32)


def _absent_note(labels: np.ndarray, classes: Sequence[str]) -> tuple[str, ...]:
    missing = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if not len(missing):
        return ()
    names = ", ".join(repr(classes[label]) for label in missing[:NAMED_AT_MOST])
    more = len(missing) - NAMED_AT_MOST
    return (
        f"{len(missing)} of {len(classes)} classes have no image here: {names}"
        + (f", and {more} more" if more > 0 else ""),
    )


def _gray_note(facts: list[Facts], form: Form) -> tuple[str, ...]:
    count = sum(not fact.gray for fact in facts)
    if form.channels == 3 or not count:
        return ()
    return (f"{counted(count, 'image')} in color turned to gray, as the run's are",)


def _split(images: Encoded, labels: np.ndarray, resident: bool, place: Path) -> Split:
    if not resident:
        return Split(images, labels, images.extents)

    def decode_all() -> np.ndarray:
        pixels = np.empty(images.shape, np.uint8)
        decode_into(pixels, images, shown(place.name))
        return pixels

    return Undecoded(images.shape, decode_all, labels, images.extents)
