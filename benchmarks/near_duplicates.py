"""How many changed copies `hybrid_jax.inspect_data` finds, and how many it makes up.

    python benchmarks/near_duplicates.py

Training images are real ones; test images are copies of a thousand of them at most,
each changed in one way. A copy is found if it is paired with its own original. The last
column counts the pairs among the originals, which are all different images.
"""

import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits, load_sample_images

from hybrid_jax import data
from hybrid_jax.inspect_data import duplicates
from hybrid_jax.inspect_data.images import Found, look_at

COPIES = 1000


def jpeg(quality: int) -> Callable:
    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return change


def resized(factor: float) -> Callable:
    def change(image: Image.Image) -> Image.Image:
        size = round(factor * image.width), round(factor * image.height)
        return image.resize(size, Image.Resampling.LANCZOS)

    return change


def brighter(factor: float) -> Callable:
    return lambda image: image.point(lambda level: round(factor * level))


CHANGES = {
    "JPEG 90": jpeg(90),
    "JPEG 75": jpeg(75),
    "JPEG 50": jpeg(50),
    "x 0.5": resized(0.5),
    "x 0.7": resized(0.7),
    "x 1.5": resized(1.5),
    "x 2": resized(2),
    "dark 0.9": brighter(0.9),
    "bright 1.1": brighter(1.1),
}


class InMemory:
    """Images as records, PNG unless they come from a file."""

    def __init__(self, images: list[Image.Image]):
        self._contents = [self._encoded(image) for image in images]

    def __len__(self) -> int:
        return len(self._contents)

    def read(self, rows) -> list[bytes]:
        return [self._contents[row] for row in rows]

    def name(self, row: int) -> str:
        return f"image {row}"

    @staticmethod
    def _encoded(image: Image.Image) -> bytes:
        if image.format == "JPEG":
            return image.fp.getvalue()
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def digits(size: int) -> list[Image.Image]:
    scans = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    images = [Image.fromarray(scan) for scan in scans]
    return [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]


def fashion() -> list[Image.Image]:
    splits = data.load("fashion_mnist", loader="resident")
    pixels = np.concatenate([splits.train.images, splits.test.images])
    return [Image.fromarray(image[..., 0]) for image in pixels]


def tiles(size: int) -> list[Image.Image]:
    return [
        Image.fromarray(photo[y : y + size, x : x + size])
        for photo in load_sample_images().images
        for y in range(0, photo.shape[0] - size + 1, size)
        for x in range(0, photo.shape[1] - size + 1, size)
    ]


ORIGINALS = {
    "digits, 8 px": lambda: digits(8),
    "digits, 32 px": lambda: digits(32),
    "Fashion-MNIST, 28 px": fashion,
    "tiles of photos, 64 px": lambda: tiles(64),
    "those with contrast, 64 px": lambda: [
        tile for tile in tiles(64) if np.std(tile.convert("L")) > 8
    ],
    "tiles of photos, 128 px": lambda: tiles(128),
}


def main() -> None:
    table = Table("originals", *CHANGES, "pairs made up")
    for name, load in ORIGINALS.items():
        originals = load()
        empty = InMemory([])
        records = {"train": InMemory(originals), "test": empty}
        started = time.monotonic()
        made_up = len(duplicates.near(looked_at(records)).within)
        took = time.monotonic() - started
        some = np.random.default_rng(0).permutation(len(originals))[:COPIES]
        base = InMemory([originals[row] for row in some])
        shares = [
            found(base, InMemory([change(originals[row]) for row in some]))
            for change in CHANGES.values()
        ]
        count = f"{made_up} of {len(originals):,} images, {took:.1f} s"
        table.add_row(name, *(f"{100 * share:.1f} %" for share in shares), count)
    Console(width=170).print(table)


def looked_at(records: dict[str, InMemory]):
    labels = {split: np.zeros(len(r), np.int32) for split, r in records.items()}
    source = Found("copies", ("all",), records, labels)
    return look_at(source, data.Options("copies"))


def found(originals: InMemory, copies: InMemory) -> float:
    """The share of copies that are paired with their own original."""
    images = looked_at({"train": originals, "test": copies})
    pairs = {
        (pair.first, pair.second - len(originals))
        for search in (duplicates.exact, duplicates.near)
        for pair in search(images).across
    }
    return sum(first == second for first, second in pairs) / len(originals)


if __name__ == "__main__":
    main()
