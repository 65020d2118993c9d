"""New images in the pixel format of a run.

Images with labels are for evaluation (`load_labeled`), images without for prediction
(`decode_batches`). Nothing is written to disk.
"""

import collections
import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.data.cores import usable_cores
from hybrid_jax.data.dataset import LazySplit, Split
from hybrid_jax.data.image_io import Unreadable, decode_with_peak, read_head
from hybrid_jax.data.lazy_images import (
    Files,
    LazyImages,
    Records,
    refuse_unreadable,
    scan_images,
)
from hybrid_jax.data.names import class_name, suggestion
from hybrid_jax.data.pixel_format import (
    CANVAS_SCALE,
    ImageInfo,
    PixelFormat,
    clipped_text,
    is_clipped,
    stored_extents,
)
from hybrid_jax.data.sources.class_folders import (
    Entry,
    FolderContents,
    read_folder_split,
)
from hybrid_jax.data.sources.csv_table import read_table_split
from hybrid_jax.data.sources.file_list import labeled_files, with_groups
from hybrid_jax.data.sources.folder import skipped_note
from hybrid_jax.data.sources.folder_listing import (
    others_note,
)
from hybrid_jax.data.sources.repeated_files import refuse_repeated
from hybrid_jax.errors import UserError, escape, listed, plural
from hybrid_jax.paths import check_local, expand_user

PREFETCH_BATCHES = 2  # batches that are decoded ahead


class LabeledImages(NamedTuple):
    """Images with labels.

    Attributes:
      split: the images.
      paths: the file of each image.
      notes: messages on what was left out.
      split_name: `train`, `validation` or `test`; empty where there are no splits.
    """

    split: Split
    paths: list[Path]
    notes: tuple[str, ...]
    split_name: str


class Batch(NamedTuple):
    """A batch of images without labels.

    Attributes:
      names: paths of the images, or what else they are called.
      images: uint8 `[n, H, W, C]`; zeros where an image cannot be read.
      extents: int32 `[n, 2]`, height and width that each image fills; None if all do.
      errors: why each image cannot be read; empty if it can.
      differences: how each image differs from those of the run, in words.
    """

    names: list[str]
    images: np.ndarray
    extents: np.ndarray | None
    errors: list[str]
    differences: list[tuple[str, ...]]

    def check_readable(self) -> None:
        """Refuse a batch with an image that cannot be read.

        Raises:
          UserError: names the first such image.
        """
        for name, error in zip(self.names, self.errors, strict=True):
            if error:
                raise UserError(f"{escape(name)} cannot be read: {error}")


class Decoded(NamedTuple):
    """One image of a `Batch`; its pixels are None if it cannot be read."""

    pixels: np.ndarray | None
    extent: np.ndarray
    error: str = ""
    differences: tuple[str, ...] = ()


def load_labeled(
    path: str,
    form: PixelFormat,
    classes: Sequence[str],
    split: str = "",
    on_error: str = "stop",
    loader: str = "auto",
    group: str = "",
) -> LabeledImages:
    """Load images with labels from class folders or a table.

    Args:
      path: the folder or the table.
      form: pixel format of the run.
      classes: class names, in the order of the run's labels.
      split: `train`, `validation` or `test`, where the images are split.
      on_error: `stop` at images that cannot be read, or `skip` them.
      loader: value of `config.data.loader`.
      group: value of `config.data.group`; a table's own column of groups goes first.

    Raises:
      UserError: there are no such images, the run does not know a class, an image
        cannot be read, or it is in two classes.
    """
    root = expand_user(path)
    check_local("path", path)
    if not root.exists():
        raise UserError(f"{escape(path)} does not exist")
    read = read_folder_split if root.is_dir() else read_table_split
    found = read(root, split)
    entries, group_notes = _grouped(found, group, root)
    labels = _encode_labels(root, entries, classes)
    repeated = _repeated(root, entries)
    paths = [entry.path for entry in entries]
    infos = scan_images(Files(paths), escape(root.name))
    if on_error != "skip":
        way_out = "repair or remove them, or skip them (--on-error=skip)"
        refuse_unreadable(Files(paths), infos, escape(root.name), way_out)
    good = np.flatnonzero([not info.error for info in infos])
    skipped = skipped_note(dict(zip(paths, infos, strict=True)))
    if not len(good):
        raise UserError(f"{escape(root)} has no image that can be read")
    files, infos = labeled_files(entries, labels).take(good), [infos[r] for r in good]
    sizes = np.array([info[:2] for info in infos], np.int32)
    rows = np.arange(len(good))
    images = LazyImages(Files(files.paths), with_canvas(form), rows, sizes)
    all_notes = (
        *found.notes,
        *others_note(found.others),
        *group_notes,
        *found.empty,
        *repeated,
        *skipped,
        *_difference_notes(files.paths, infos, form),
        *_absent_note(files.labels, classes),
    )
    fields = files.labels, images.extents, files.groups
    title = escape(root.name)
    split_images = _split(images, fields, tuple(classes), loader, title)
    return LabeledImages(split_images, files.paths, all_notes, "".join(found.splits))


def label_images(
    records: Records,
    labels: np.ndarray,
    form: PixelFormat,
    classes: Sequence[str],
    loader: str,
) -> Split:
    """Return images that a caller hands over as a split in the pixel format of a run.

    Args:
      records: the encoded images.
      labels: int32 `[N]`.
      form: pixel format of the run.
      classes: class names, in the order of the labels.
      loader: value of `config.data.loader`.

    Raises:
      UserError: an image cannot be read.
    """
    infos = scan_images(records, "given")
    refuse_unreadable(records, infos, "given", "repair them, or leave them out")
    sizes = np.array([info[:2] for info in infos], np.int32)
    images = LazyImages(records, with_canvas(form), np.arange(len(records)), sizes)
    fields = labels, images.extents, None
    return _split(images, fields, tuple(classes), loader, "given")


def decode_batches(records: Records, form: PixelFormat, size: int) -> Iterator[Batch]:
    """Decode images on all cores, some batches ahead.

    Args:
      records: the encoded images.
      form: pixel format of the run.
      size: images of a batch; the last batch may have fewer.
    """
    form = with_canvas(form)
    starts = iter(range(0, len(records), size))
    waiting: collections.deque[tuple[range, list[Future]]] = collections.deque()
    with ThreadPoolExecutor(usable_cores()) as pool:

        def submit() -> None:
            if (start := next(starts, None)) is not None:
                rows = range(len(records))[start : start + size]
                futures = [pool.submit(_decoded, records, r, form) for r in rows]
                waiting.append((rows, futures))

        for _ in range(1 + PREFETCH_BATCHES):
            submit()
        try:
            while waiting:
                rows, futures = waiting.popleft()
                names = [records.name(row) for row in rows]
                yield _batch(names, [future.result() for future in futures], form)
                submit()
        finally:
            pool.shutdown(cancel_futures=True)


def with_canvas(form: PixelFormat) -> PixelFormat:
    """Return the pixel format with arrays that can store an image of any size whole."""
    if form.target is None:
        return form
    height, width = form.target
    return dataclasses.replace(form, size=(CANVAS_SCALE * height, CANVAS_SCALE * width))


def differences(info: ImageInfo, form: PixelFormat) -> tuple[str, ...]:
    """Describe how an image differs from a run's in channels and depth."""
    found = []
    if not info.gray and form.channels == 1:
        found.append("in color turned to gray, as the run's are")
    if info.gray and form.channels == 3:
        found.append("in gray read as color, as the run's are")
    if info.bits == 16 and form.bits:
        found.append(f"of 16 bits, whose levels are divided by {1 << form.bits - 8}")
    elif 8 < form.bits < 16:
        found.append(
            f"of {info.bits} bits, where the run has some of 16: 255 is the highest "
            "level of both"
        )
    if form.bits and is_clipped(info, form.bits):
        found.append(clipped_text(form.bits))
    return tuple(found)


class Tally:
    """A count of the images with each difference, and the first of them."""

    def __init__(self) -> None:
        self._counts = collections.Counter[str]()
        self._first: dict[str, str] = {}

    def add(self, name: str | os.PathLike, found: Iterable[str]) -> None:
        """Count the differences of an image."""
        for difference in found:
            self._counts[difference] += 1
            self._first.setdefault(difference, escape(name))

    def notes(self) -> list[str]:
        """Return a note on each difference."""
        return [
            f"{plural(count, 'image')} {what}; the first is {self._first[what]}"
            for what, count in self._counts.items()
        ]


def _decoded(records: Records, row: int, form: PixelFormat) -> Decoded:
    extent = np.array(form.size, np.int32)
    try:
        (content,) = records.read([row])
        head, filled = read_head(content), None
        if form.target is not None:
            sizes = np.array([head[:2]])
            (extent,) = stored_extents(sizes, form.target, form.fit)
            height, width = extent.tolist()
            filled = height, width
        pixels, peak = decode_with_peak(content, form, filled)
        found = differences(head._replace(peak=peak), form)
        return Decoded(pixels, extent, differences=found)
    except Unreadable as error:
        return Decoded(None, extent, str(error))


def _batch(names: list[str], decoded: list[Decoded], form: PixelFormat) -> Batch:
    images = np.zeros((len(names), *form.size, form.channels), np.uint8)
    for row, each in enumerate(decoded):
        if each.pixels is not None:
            images[row] = each.pixels
    return Batch(
        names,
        images,
        None if form.target is None else np.stack([each.extent for each in decoded]),
        [each.error for each in decoded],
        [each.differences for each in decoded],
    )


def _encode_labels(
    root: Path, entries: list[Entry], classes: Sequence[str]
) -> np.ndarray:
    """Encode the class names of images as labels int32 `[N]`."""
    names = [class_name(entry.label) for entry in entries]
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = collections.Counter(name for name in names if name not in numbers)
    if unknown:
        found = [
            f"{name!r} ({plural(count, 'image')}{suggestion(name, classes)})"
            for name, count in unknown.items()
        ]
        raise UserError(
            f"{escape(root)} has classes that the run does not know: {listed(found)}; "
            f"those of the run are {listed([*map(repr, classes)])}"
        )
    return np.array([numbers[name] for name in names], np.int32)


def _repeated(root: Path, entries: list[Entry]) -> tuple[str, ...]:
    """Return a note on files that are there twice, if each is of one class."""
    rows = ((each.path, f"as {class_name(each.label)!r}", False) for each in entries)
    return refuse_repeated(root, rows)


def _difference_notes(
    paths: Sequence[Path], infos: Sequence[ImageInfo], form: PixelFormat
) -> tuple[str, ...]:
    tally = Tally()
    for path, info in zip(paths, infos, strict=True):
        tally.add(path, differences(info, form))
    return tuple(tally.notes())


def _absent_note(labels: np.ndarray, classes: Sequence[str]) -> tuple[str, ...]:
    counts = np.bincount(labels, minlength=len(classes))
    missing = np.flatnonzero(counts == 0).tolist()
    if not missing:
        return ()
    names = listed([repr(classes[label]) for label in missing])
    return (f"{len(missing)} of {len(classes)} classes have no image here: {names}",)


def _grouped(
    found: FolderContents, group: str, root: Path
) -> tuple[list[Entry], tuple[str, ...]]:
    """Return entries with the groups of their table or a run's expression; and notes.

    Without groups, entries are returned as they are.
    """
    entries, column = found.entries, found.group_column
    if not group:
        return entries, ()
    if column:
        given = f"config.data.group={group}"
        return entries, (f"groups are those of the column {column}, not of {given}",)
    try:
        return with_groups(entries, group, root if root.is_dir() else root.parent), ()
    except UserError as error:
        return entries, (f"intervals take the images as independent: {error}",)


def _split(
    images: LazyImages,
    fields: tuple[np.ndarray, np.ndarray | None, np.ndarray | None],
    classes: tuple[str, ...],
    loader: str,
    title: str,
) -> Split:
    """Return a split of images with labels, extents and groups."""
    from hybrid_jax.data.memory_budget import is_resident

    if not is_resident(loader, [images]):
        return Split(images, *fields, classes=classes)
    decode = functools.partial(images.decode_all, title)
    return LazySplit(images.shape, decode, *fields, images, classes)
