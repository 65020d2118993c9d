"""How many changed copies `hybrid_jax.inspection` finds, and how many it makes up.

    python benchmarks/near_duplicates.py
    python benchmarks/near_duplicates.py --folder=cifar10 --pairs=known.csv

Without arguments: training images are real ones; test images are copies of some of
them, each changed in one way. A copy is found if it is paired with its own original,
almost surely. The last column counts such pairs among the originals, which are all
different images.

With a folder and a table of known pairs: how many of them are found in each band, and
how many pairs across the splits there are. The table has the columns `test` and
`train`, which name files relative to the folder, and optionally `kind`.
`--sheet=pairs.png` draws a hundred pairs of each band, to count the false ones by eye.
"""

import argparse
import collections
import csv
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits, load_sample_images

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.inspection import near_duplicates
from hybrid_jax.inspection.scan import FoundImages, ScannedImages, find, scan

COPIES = 200
SHOWN, COLUMNS, SIDE = 100, 10, 80


def jpeg(quality: int) -> Callable:
    """Return a change that compresses an image as JPEG."""

    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return change


def resized(factor: float) -> Callable:
    """Return a change that scales both sides of an image."""

    def change(image: Image.Image) -> Image.Image:
        size = round(factor * image.width), round(factor * image.height)
        return image.resize(size, Image.Resampling.LANCZOS)

    return change


def levels(gain: float, shift: float = 0) -> Callable:
    """Return a change of brightness and contrast."""
    return lambda image: image.point(lambda level: round(gain * level + shift))


def tinted(image: Image.Image) -> Image.Image:
    """Return an image with less green and blue."""
    parts = zip(image.convert("RGB").split(), (1, 0.85, 0.6), strict=True)
    return Image.merge("RGB", [part.point(lambda v, f=f: f * v) for part, f in parts])


def shifted(right: float, down: float) -> Callable:
    """Return a change that shifts an image by parts of its sides, repeating borders."""

    def change(image: Image.Image) -> Image.Image:
        pixels = np.asarray(image)
        height, width = pixels.shape[:2]
        columns = np.clip(np.arange(width) - round(right * width), 0, width - 1)
        rows = np.clip(np.arange(height) - round(down * height), 0, height - 1)
        return Image.fromarray(pixels[rows][:, columns])

    return change


def cropped(left: float, top: float, side: float) -> Callable:
    """Return a change that enlarges a square part of an image to the whole size."""

    def change(image: Image.Image) -> Image.Image:
        w, h = image.size
        box = left * w, top * h, (left + side) * w, (top + side) * h
        return image.resize(image.size, Image.Resampling.BICUBIC, box)

    return change


def framed(part: float) -> Callable:
    """Return a change that adds a white frame, whose width is a part of the image's."""

    def change(image: Image.Image) -> Image.Image:
        return ImageOps.expand(image, max(1, round(part * image.width)), "white")

    return change


def several(image: Image.Image) -> Image.Image:
    """Return an image that is mirrored, cropped and compressed."""
    return jpeg(75)(cropped(0.1, 0.05, 0.9)(ImageOps.mirror(image)))


CHANGES = {
    "JPEG 75": jpeg(75),
    "JPEG 50": jpeg(50),
    "x 0.5": resized(0.5),
    "x 2": resized(2),
    "dark 0.6": levels(0.6),
    "faded": levels(0.6, 50),
    "tint": tinted,
    "mirror": ImageOps.mirror,
    "shift 6 %": shifted(0.06, 0.06),
    "12 %": shifted(0.12, -0.06),
    "crop 90 %": cropped(0.05, 0.05, 0.9),
    "80 %": cropped(0.2, 0.1, 0.8),
    "frame 5 %": framed(0.05),
    "10 %": framed(0.1),
    "several": several,
}


class InMemory:
    """Images as records: JPEG if they were compressed so, else PNG."""

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
    """Return the 1,797 digits of scikit-learn, resized."""
    scans = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    images = [Image.fromarray(scan) for scan in scans]
    return [image.resize((size, size), Image.Resampling.BICUBIC) for image in images]


def fashion() -> list[Image.Image]:
    """Return the test images of Fashion-MNIST."""
    splits = data.load(DataConfig("fashion_mnist", loader="resident"))
    pixels = np.asarray(splits.test.images)
    return [Image.fromarray(image[..., 0]) for image in pixels]


def tiles(size: int) -> list[Image.Image]:
    """Return adjacent square tiles of scikit-learn's photographs."""
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


def changed_copies() -> None:
    """Print the share of changed copies that are found, and pairs that are made up."""
    table = Table("originals", *CHANGES, "pairs made up")
    for name, load in ORIGINALS.items():
        originals = load()
        started = time.monotonic()
        alone = looked_at({"train": InMemory(originals), "test": InMemory([])})
        made_up = sum(
            pair.band == near_duplicates.SURE
            for pair in near_duplicates.find_near(alone).within_split
        )
        took = time.monotonic() - started
        some = np.random.default_rng(0).permutation(len(originals))[:COPIES]
        base = InMemory([originals[row] for row in some])
        shares = [
            found(base, InMemory([change(originals[row]) for row in some]))
            for change in CHANGES.values()
        ]
        count = f"{made_up} of {len(originals):,} images, {took:.0f} s"
        table.add_row(name, *(f"{100 * share:.0f}" for share in shares), count)
    Console(width=190).print(table)


def known_pairs(folder: str, table: str, sheet: str) -> None:
    """Print how many known pairs are found in each band, and draw pairs."""
    options = DataConfig("folder", path=folder)
    with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = [*csv.DictReader(file)]
    known = {(row["train"], row["test"]): row.get("kind") or "known" for row in rows}
    totals = collections.Counter(known.values())
    images = scan(find(options), options)
    started = time.monotonic()
    between_splits = near_duplicates.find_near(images).between_splits
    Console().print(f"{len(images):,} images in {time.monotonic() - started:.0f} s")
    shown = Table("up to", "pairs", "test images", *(f"kind {k}" for k in totals))
    seen: list[near_duplicates.Pair] = []
    for band in near_duplicates.BANDS:
        chosen = [pair for pair in between_splits if pair.band == band]
        seen += chosen
        names = {(images.name(p.first), images.name(p.second)) for p in seen}
        kinds = collections.Counter(known[name] for name in names if name in known)
        recall = [f"{kinds[k]} of {total}" for k, total in totals.items()]
        tested = len({pair.second for pair in seen})
        shown.add_row(band, f"{len(seen):,}", f"{tested:,}", *recall)
        if sheet and chosen:
            path = Path(sheet)
            draw(images, chosen, path.with_stem(f"{path.stem}-{band.split()[0]}"))
    Console().print(shown)


def draw(images: ScannedImages, pairs: list[near_duplicates.Pair], path: Path) -> None:
    """Draw some of the pairs, from the first to the last, in rows of ten."""
    places = np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs))).astype(int)
    rows = -(-len(places) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (2 * SIDE + 12), rows * (SIDE + 6)), "white")
    for number, place in enumerate(places):
        row, column = divmod(number, COLUMNS)
        for side, image in enumerate((pairs[place].first, pairs[place].second)):
            picture = images.picture(image).resize((SIDE, SIDE))
            left = column * (2 * SIDE + 12) + side * (SIDE + 2)
            sheet.paste(picture, (left, row * (SIDE + 6)))
    sheet.save(path)


def looked_at(records: dict[str, InMemory]):
    """Return the scanned images of each split, all of one class."""
    labels = {split: np.zeros(len(r), np.int32) for split, r in records.items()}
    source = FoundImages("copies", ("all",), records, labels)
    return scan(source, DataConfig("copies"))


def found(originals: InMemory, copies: InMemory) -> float:
    """Return the share of copies that are paired with their original, almost surely."""
    images = looked_at({"train": originals, "test": copies})
    pairs = {
        (pair.first, pair.second - len(originals))
        for copies in (
            near_duplicates.find_exact(images),
            near_duplicates.find_near(images),
        )
        for pair in copies.between_splits
        if pair.band in (near_duplicates.SAME, near_duplicates.SURE)
    }
    return sum(first == second for first, second in pairs) / len(originals)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", help="of images, with train/ and test/")
    parser.add_argument("--pairs", help="a table of known pairs: test, train, kind")
    parser.add_argument("--sheet", default="", help="a .png, one of each band")
    options = parser.parse_args()
    if bool(options.folder) != bool(options.pairs):
        parser.error("--folder and --pairs go together")
    if options.folder:
        known_pairs(options.folder, options.pairs, options.sheet)
    else:
        changed_copies()


if __name__ == "__main__":
    main()
