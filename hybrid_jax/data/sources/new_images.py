"""New images in the pixel format of a run.

Images with labels are for evaluation (`load_labeled`), images without for prediction
(`find_files`, `decode_batches`). Nothing is written to disk.
"""

import collections
import dataclasses
import functools
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid_jax.data.dataset import LazySplit, Split
from hybrid_jax.data.image_io import Unreadable, decode, size_of
from hybrid_jax.data.lazy_images import (
    Files,
    LazyImages,
    read_file,
    refuse_unreadable,
    scan_images,
)
from hybrid_jax.data.pixel_format import (
    CANVAS_SCALE,
    ImageInfo,
    PixelFormat,
    stored_extents,
)
from hybrid_jax.data.sources.class_folders import images_below, read_folder_split
from hybrid_jax.data.sources.csv_table import read_table_split
from hybrid_jax.data.sources.file_list import class_name, suggestion
from hybrid_jax.data.sources.folder import skipped_note
from hybrid_jax.errors import UserError, escape, listed, plural
from hybrid_jax.paths import check_local, expand_user

PREFETCH_BATCHES = 2  # batches that are decoded ahead


class LabeledImages(NamedTuple):
    """Hold images with labels: the split, the file of each image, and notes."""

    split: Split
    paths: list[Path]
    notes: tuple[str, ...]


class Batch(NamedTuple):
    """Hold images without labels.

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


def load_labeled(
    path: str,
    form: PixelFormat,
    classes: Sequence[str],
    split: str = "",
    on_error: str = "stop",
    loader: str = "auto",
) -> LabeledImages:
    """Load images with labels from class folders or a table.

    Args:
      path: of the folder or the table.
      form: pixel format of the run.
      classes: names, in the order of the run's labels.
      split: `train`, `validation` or `test`, where the images are split.
      on_error: `stop` at images that cannot be read, or `skip` them.
      loader: row of `config.data.loader`.

    Raises:
      UserError: there are no such images, some are of no class of the run, or some
        cannot be read.
    """
    from hybrid_jax.data.memory_budget import is_resident

    root = expand_user(path)
    check_local("path", path)
    if not root.exists():
        raise UserError(f"{escape(path)} does not exist")
    read = read_folder_split if root.is_dir() else read_table_split
    entries, notes, empty, _ = read(root, split)
    labels = _encode_labels(
        root, [class_name(entry.label) for entry in entries], classes
    )
    paths = [entry.path for entry in entries]
    infos = scan_images(Files(paths), escape(root.name))
    if on_error != "skip":
        way_out = "mend or remove them, or skip them (--on-error=skip)"
        refuse_unreadable(Files(paths), infos, escape(root.name), way_out)
    good = np.flatnonzero([not info.error for info in infos])
    skipped = skipped_note(dict(zip(paths, infos, strict=True)))
    if not len(good):
        raise UserError(f"{escape(root)} has no image that can be read")
    paths, infos = [paths[row] for row in good], [infos[row] for row in good]
    sizes = np.array([info[:2] for info in infos], np.int32)
    images = LazyImages(Files(paths), with_canvas(form), np.arange(len(paths)), sizes)
    all_notes = (
        *notes,
        *empty,
        *skipped,
        *_gray_note(infos, form),
        *_absent_note(labels[good], classes),
    )
    split_images = _split(images, labels[good], is_resident(loader, [images]), root)
    return LabeledImages(split_images, paths, all_notes)


def find_files(paths: Iterable[str | os.PathLike]) -> list[Path]:
    """Find image files by paths, folders or patterns.

    A folder stands for all images below it, sorted by path. `cells/*.png` is a pattern
    unless a file has this name.

    Raises:
      UserError: names what is not there, or holds no image.
    """
    found: dict[Path, None] = {}
    for given in paths:
        check_local("path", os.fspath(given))
        path = expand_user(given)
        if os.path.lexists(path):
            matches = [path]
        elif glob.has_magic(os.fspath(given)):
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)))
            if not matches:
                raise UserError(f"{escape(given)} matches no file")
        else:
            raise UserError(f"{escape(given)} does not exist")
        files = [f for p in matches for f in (images_below(p) if p.is_dir() else [p])]
        if not files:
            raise UserError(f"{escape(given)} holds no image")
        found |= dict.fromkeys(files)
    if not found:
        raise UserError("no image is named: give files, folders or patterns")
    return [*found]


def decode_batches(
    paths: Sequence[Path], form: PixelFormat, size: int
) -> Iterator[Batch]:
    """Decode image files on all cores, some batches ahead.

    Args:
      paths: of the files.
      form: pixel format of the run.
      size: images of a batch, at most; the last one may have fewer.
    """
    form = with_canvas(form)
    starts = iter(range(0, len(paths), size))
    waiting: collections.deque[tuple[list[Path], list[Future]]] = collections.deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def submit() -> None:
            if (start := next(starts, None)) is not None:
                batch_paths = [*paths[start : start + size]]
                futures = [pool.submit(_decoded, p, form) for p in batch_paths]
                waiting.append((batch_paths, futures))

        for _ in range(1 + PREFETCH_BATCHES):
            submit()
        try:
            while waiting:
                batch_paths, futures = waiting.popleft()
                yield _batch(batch_paths, [future.result() for future in futures], form)
                submit()
        finally:
            pool.shutdown(cancel_futures=True)


def with_canvas(form: PixelFormat) -> PixelFormat:
    """Return a pixel format with room for images of any size stored whole."""
    if form.target is None:
        return form
    height, width = form.target
    return dataclasses.replace(form, size=(CANVAS_SCALE * height, CANVAS_SCALE * width))


def _decoded(
    path: Path, form: PixelFormat
) -> tuple[np.ndarray | None, np.ndarray, str]:
    """Return pixels, extent and error of a file; the error is empty on success."""
    extent = np.array(form.size, np.int32)
    try:
        content = read_file(path)
        if form.target is not None:
            sizes = np.array([size_of(content)])
            (extent,) = stored_extents(sizes, form.target, form.fit)
            height, width = extent.tolist()
            return decode(content, form, (height, width)), extent, ""
        return decode(content, form), extent, ""
    except Unreadable as error:
        return None, extent, str(error)


def _batch(paths: list[Path], decoded: list[tuple], form: PixelFormat) -> Batch:
    images = np.zeros((len(paths), *form.size, form.channels), np.uint8)
    for row, (pixels, _, _) in enumerate(decoded):
        if pixels is not None:
            images[row] = pixels
    extents = None if form.target is None else np.stack([e for _, e, _ in decoded])
    return Batch(paths, images, extents, [error for *_, error in decoded])


def _encode_labels(root: Path, names: list[str], classes: Sequence[str]) -> np.ndarray:
    """Encode class names as labels int32 `[N]`."""
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


def _absent_note(labels: np.ndarray, classes: Sequence[str]) -> tuple[str, ...]:
    counts = np.bincount(labels, minlength=len(classes))
    missing = np.flatnonzero(counts == 0).tolist()
    if not missing:
        return ()
    names = listed([repr(classes[label]) for label in missing])
    return (f"{len(missing)} of {len(classes)} classes have no image here: {names}",)


def _gray_note(infos: list[ImageInfo], form: PixelFormat) -> tuple[str, ...]:
    count = sum(not info.gray for info in infos)
    if form.channels == 3 or not count:
        return ()
    return (f"{plural(count, 'image')} in color turned to gray, as the run's are",)


def _split(images: LazyImages, labels: np.ndarray, resident: bool, root: Path) -> Split:
    if not resident:
        return Split(images, labels, images.extents)
    decode = functools.partial(images.decode_all, escape(root.name))
    return LazySplit(images.shape, decode, labels, images.extents, encoded=images)
