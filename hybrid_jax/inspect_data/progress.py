"""A bar for what takes a while."""

import sys
from collections.abc import Iterator

from rich.progress import track


def blocks(count: int, size: int, title: str = "") -> Iterator[slice]:
    """Slices of `count` rows, `size` each, with a bar on a terminal if titled."""
    slices = [slice(i, min(i + size, count)) for i in range(0, count, size)]
    hidden = not title or len(slices) == 1 or not sys.stdout.isatty()
    yield from track(slices, title, transient=True, disable=hidden)
