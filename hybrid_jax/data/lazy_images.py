"""Images as they lie in files or records: looked through once, decoded when asked for.

`Encoded` is indexed like an array of all pixels would be, so who reads batches need not
know which of the two is there.
"""

import collections
import dataclasses
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.progress import track

from hybrid_jax.data.extents import are_cut, extents_of
from hybrid_jax.data.image_io import (
    Facts,
    Form,
    Unreadable,
    decode,
    examine,
    is_gray,
)
from hybrid_jax.errors import UserError, first_line, shown

# Asked for together, records of TFDS come faster than one at a time; but a photograph
# takes fifty megabytes, and every core has so many of them.
ROWS_AT_ONCE = 32
# Share of the 16-bit images whose depth counts, since one broken pixel of a camera must
# not darken all others.
DEPTH_OF = 0.9
NAMED_AT_MOST = 5


class Records(Protocol):
    """Encoded images by number, wherever they lie.

    In place of the bytes of a file that cannot be opened is why it cannot.
    """

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int]) -> list[bytes | Unreadable]: ...

    def name(self, row: int) -> str: ...


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files as records."""

    paths: list[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Sequence[int]) -> list[bytes | Unreadable]:
        return [content_of(self.paths[row]) for row in rows]

    def name(self, row: int) -> str:
        return str(self.paths[row])


def content_of(path: Path) -> bytes | Unreadable:
    """The bytes of a file, or why it cannot be opened."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Unreadable("it is no file")  # a pipe would be waited for
        return path.read_bytes()
    except FileNotFoundError:
        gone = "it is a link to nothing" if path.is_symlink() else "it is gone"
        return Unreadable(gone)
    except OSError as error:
        return Unreadable(error.strerror or first_line(error))


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A split whose images are decoded at every access.

    Attributes:
      records: where they lie.
      form: what they are decoded to.
      rows: which records, in which order.
      sizes: int32 `[records, 2]`, height and width of each record, where images are
        kept whole; else None.
    """

    records: Records
    form: Form
    rows: np.ndarray
    sizes: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`[N, H, W, C]`."""
        return (len(self.rows), *self.form.size, self.form.channels)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen) -> np.ndarray:
        """Pixels uint8 `[n, H, W, C]` of some places.

        Raises:
          UserError: names an image that cannot be read.
        """
        rows, extents = self.rows[chosen], self.extents
        extents = [None] * len(rows) if extents is None else extents[chosen]
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        contents = self.records.read(rows.tolist())
        given = zip(rows, contents, extents, strict=True)
        for i, (row, content, extent) in enumerate(given):
            try:
                images[i] = decode(content, self.form, extent)
            except Unreadable as error:
                name = shown(self.records.name(row))
                raise UserError(f"{name} cannot be read: {error}") from None
        return images

    @functools.cached_property
    def extents(self) -> np.ndarray | None:
        """Height and width that each image fills, int32 `[N, 2]`; None if all do."""
        if self.form.target is None:
            return None
        return extents_of(self.sizes[self.rows], self.form.target, self.form.fit)

    @property
    def cut(self) -> int:
        """How many images lose their ends, being too long to be kept whole."""
        if self.form.target is None or self.form.fit != "crop":
            return 0
        return int(are_cut(self.sizes[self.rows], self.extents).sum())

    def take(self, rows: np.ndarray) -> "Encoded":
        """Some of the images, in the order given."""
        return dataclasses.replace(self, rows=self.rows[rows])


def decode_into(images: np.ndarray, encoded: Encoded, title: str) -> None:
    """Decodes all of a split into an array uint8 `[N, H, W, C]`, on all cores."""

    def fill(rows: slice) -> None:
        images[rows] = encoded[rows]

    for _ in mapped(fill, len(encoded), f"decoding {title}"):
        pass


def look_through(records: Records, title: str) -> list[Facts]:
    """The facts of every image, the unreadable ones included, on all cores."""

    def look(rows: slice) -> list[Facts]:
        numbers = range(len(records))[rows]
        return [examine(content) for content in records.read(numbers)]

    blocks = mapped(look, len(records), f"looking through {title}")
    return [facts for block in blocks for facts in block]


def mapped(
    work: Callable, count: int, title: str = "", size: int = ROWS_AT_ONCE
) -> Iterator:
    """Calls `work(rows)` for slices of all rows, on all cores; yields in their order.

    Args:
      work: takes a slice.
      count: of all rows.
      title: of a progress bar on a terminal; empty for none.
      size: of a slice.
    """
    slices = [slice(i, min(i + size, count)) for i in range(0, count, size)]
    hidden = not title or len(slices) == 1 or not sys.stdout.isatty()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(work, slices)
        yield from track(done, title, total=len(slices), transient=True, disable=hidden)


def choose_form(
    facts: list[Facts],
    image_size: tuple[int, int],
    fit: str,
    background: str,
    title: str,
) -> Form:
    """What readable images are kept as.

    They stay as they are if all have one size, and a network's input would only be a
    smaller or larger copy of them, at least half as large. Others are kept whole, in
    arrays of up to twice the input's size.

    Raises:
      UserError: they have several sizes and no `image_size` was chosen.
    """
    if not facts:
        raise UserError(f"{title} has no image that can be read")
    sizes = collections.Counter((f.height, f.width) for f in facts)
    first, size = next(iter(sizes)), tuple(image_size)
    if len(sizes) > 1 and not size:
        (h, w), (tall, wide) = min(sizes), max(sizes)
        raise UserError(
            f"{title} has images of {len(sizes)} sizes, from {h}x{w} to {tall}x{wide}: "
            "choose one, such as --config.data.image_size=64,64"
        )
    as_they_are = len(sizes) == 1 and (not size or _is_copy(first, size))
    target = None
    if not as_they_are:
        extents = extents_of(np.array([*sizes]), size, fit)
        first = tuple(map(int, extents.max(0)))
        all_fill = (extents == first).all() and _is_copy(first, size)
        target = None if all_fill else size
    tinted = any(f.transparent for f in facts) and not is_gray(background)
    return Form(
        size=first,
        channels=1 if all(f.gray for f in facts) and not tinted else 3,
        bits=_depth([f.peak for f in facts if f.bits == 16]),
        fit=fit,
        background=background,
        target=target,
    )


def _depth(peaks: list[int]) -> int:
    """Bits that images use of the 16 that they store, from their highest levels."""
    if not peaks:
        return 16
    return max(8, int(np.quantile(peaks, DEPTH_OF)).bit_length())


def refuse_unreadable(
    records: Records, facts: Sequence[Facts], title: str, way_out: str
) -> None:
    """Raises a `UserError` that names the images that cannot be read, if any."""
    bad = [row for row, fact in enumerate(facts) if fact.error]
    if not bad:
        return
    named = [
        f"{shown(records.name(row))} ({facts[row].error})"
        for row in bad[:NAMED_AT_MOST]
    ]
    more = f", and {len(bad) - len(named)} more" if len(bad) > len(named) else ""
    raise UserError(
        f"{len(bad)} of the {len(facts):,} {title} images cannot be read: "
        f"{', '.join(named)}{more}; {way_out}"
    )


def _is_copy(stored: tuple[int, int], size: tuple[int, int]) -> bool:
    (h, w), (height, width) = stored, size
    return h * width == w * height and h <= 2 * height
