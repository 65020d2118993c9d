"""Images in files or records, which are scanned once and decoded at every access.

`LazyImages` is indexed like an array of all pixels, so loaders treat both alike.
"""

import dataclasses
import functools
import stat
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.progress import Progress, TextColumn

from hybrid_jax.data.cores import usable_cores
from hybrid_jax.data.image_io import Unreadable, decode, read_info
from hybrid_jax.data.pixel_format import (
    ImageInfo,
    PixelFormat,
    are_cropped,
    stored_extents,
)
from hybrid_jax.errors import UserError, escape, first_line, listed

# Images read at once: TFDS reads records faster together, but a photograph takes fifty
# megabytes, and every core holds a block.
BLOCK = 32


class Records(Protocol):
    """Interface of encoded images that are read by number.

    `read` returns an `Unreadable` in place of a file that cannot be opened.
    """

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int]) -> Sequence[bytes | Unreadable]: ...

    def name(self, row: int) -> str: ...


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files as records."""

    paths: list[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Sequence[int]) -> list[bytes | Unreadable]:
        return [read_file(self.paths[row]) for row in rows]

    def name(self, row: int) -> str:
        return str(self.paths[row])


def read_file(path: Path) -> bytes | Unreadable:
    """Return the bytes of a file, or an `Unreadable` that says why there are none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Unreadable("it is no regular file")  # reading a pipe would block
        return path.read_bytes()
    except FileNotFoundError:
        is_link = path.is_symlink()
        return Unreadable(
            "it is a link to a missing file" if is_link else "it does not exist"
        )
    except OSError as error:
        return Unreadable(error.strerror or first_line(error))


@dataclasses.dataclass(frozen=True)
class LazyImages:
    """Images of a split, decoded at every access.

    Attributes:
      records: the encoded images.
      form: pixel format to decode to.
      rows: numbers of the records, in order.
      sizes: int32 `[records, 2]`, height and width of each record; only used where
        images are stored whole, else it may be None.
    """

    records: Records
    form: PixelFormat
    rows: np.ndarray
    sizes: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`[N, H, W, C]`."""
        return (len(self.rows), *self.form.size, self.form.channels)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Decode some images, uint8 `[n, H, W, C]`.

        Raises:
          UserError: an image cannot be read.
        """
        rows = self.rows[index]
        extents = [None] * len(rows) if self.extents is None else self.extents[index]
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        contents = self.records.read(rows.tolist())
        rows_and_contents = zip(rows, contents, extents, strict=True)
        for i, (row, content, extent) in enumerate(rows_and_contents):
            try:
                images[i] = decode(content, self.form, extent)
            except Unreadable as error:
                name = escape(self.records.name(row))
                raise UserError(f"{name} cannot be read: {error}") from None
        return images

    @functools.cached_property
    def extents(self) -> np.ndarray | None:
        """Height and width that each image fills, int32 `[N, 2]`; None if all do."""
        if self.form.target is None or self.sizes is None:
            return None
        return stored_extents(self.sizes[self.rows], self.form.target, self.form.fit)

    @property
    def cropped_count(self) -> int:
        """Number of images that are too long to be stored whole and lose their ends."""
        if self.extents is None or self.sizes is None or self.form.fit != "crop":
            return 0
        return int(are_cropped(self.sizes[self.rows], self.extents).sum())

    def take(self, rows: np.ndarray) -> "LazyImages":
        """Return some of the images, in the given order."""
        return dataclasses.replace(self, rows=self.rows[rows])

    def decode_all(self, title: str, out: np.ndarray | None = None) -> np.ndarray:
        """Decode all images on all cores.

        Args:
          title: title of the progress bar.
          out: array uint8 `[N, H, W, C]` to decode into; None allocates one.
        """
        images = np.empty(self.shape, np.uint8) if out is None else out

        def fill(rows: slice) -> None:
            images[rows] = self[rows]

        for _ in parallel_map(fill, len(self), f"decoding {title}"):
            pass
        return images


def scan_images(records: Records, title: str) -> list[ImageInfo]:
    """Decode every image on all cores, and return its `ImageInfo`."""

    def scan_rows(rows: slice) -> list[ImageInfo]:
        numbers = range(len(records))[rows]
        return [read_info(content) for content in records.read(numbers)]

    blocks = parallel_map(scan_rows, len(records), f"scanning {title}")
    return [infos for block in blocks for infos in block]


def parallel_map(
    work: Callable, count: int, title: str = "", size: int = BLOCK
) -> Iterator:
    """Call `work(rows)` for slices of all rows on all cores; yield results in order.

    Args:
      work: function of a slice of rows.
      count: number of rows.
      title: title of the progress bar on a terminal; empty for no bar.
      size: rows of a slice.
    """
    slices = [slice(i, min(i + size, count)) for i in range(0, count, size)]
    hidden = not title or len(slices) == 1 or not sys.stdout.isatty()
    name = TextColumn("{task.description}", markup=False)  # a title may hold [red]
    columns = name, *Progress.get_default_columns()[1:]
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        Progress(*columns, transient=True, disable=hidden) as progress,
    ):
        results = pool.map(work, slices)
        yield from progress.track(results, len(slices), description=title)


class UnreadableImages(UserError):
    """Images that cannot be read and may not be skipped.

    Attributes:
      what: text that names them, without a way out.
      named_splits: splits beside `train` that the user's folder or table names.
    """

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(f"{what}; {way_out}")
        self.what = what
        self.named_splits: Container[str] = ()

    def with_way_out(self, way_out: str) -> "UnreadableImages":
        """Return the same error with another text that tells the user what to do."""
        error = UnreadableImages(self.what, way_out)
        error.named_splits = self.named_splits
        return error


def refuse_unreadable(
    records: Records, infos: Sequence[ImageInfo], title: str, way_out: str
) -> None:
    """Refuse images that cannot be read, if there are any.

    Args:
      records: the images.
      infos: properties of each image, as `scan_images` returns them.
      title: name of the images in the message.
      way_out: what the message tells the user to do.

    Raises:
      UnreadableImages: there are some.
    """
    bad = [row for row, info in enumerate(infos) if info.error]
    if not bad:
        return
    named = [f"{escape(records.name(row))} ({infos[row].error})" for row in bad]
    raise UnreadableImages(
        f"{len(bad)} of the {len(infos):,} {title} images cannot be read: "
        f"{listed(named)}",
        way_out,
    )
