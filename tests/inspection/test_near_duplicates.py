"""Copies among real digits: exact ones by sorting, changed ones by their originals."""

import csv
import functools
import io
import math
import os

import jax
import jax.extend
import numpy as np
import pytest
from PIL import Image, ImageOps

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.image_io import read_info_and_image
from hybrid_jax.inspection import alignment, candidates, report
from hybrid_jax.inspection.fingerprints import compute_fingerprints
from hybrid_jax.inspection.near_duplicates import (
    MIN_CONTRAST,
    SURE,
    contrast,
    find_exact,
    find_near,
)
from hybrid_jax.inspection.scan import FoundImages, find, scan
from tests.data.files import digit, encoded, write
from tests.data.test_decoders import png


def moved(image, right, down):
    """Shifted by pixels; what comes in is like the border."""
    columns = np.clip(np.arange(image.width) - right, 0, image.width - 1)
    rows = np.clip(np.arange(image.height) - down, 0, image.height - 1)
    return Image.fromarray(np.asarray(image)[rows][:, columns])


class InMemory:
    def __init__(self, images):
        self.contents = [encoded(image, "PNG") for image in images]

    def __len__(self):
        return len(self.contents)

    def read(self, rows):
        return [self.contents[row] for row in rows]

    def name(self, row):
        return str(row)


def looked_at(train, test=()):
    records = {"train": InMemory(train), "test": InMemory(test)}
    labels = {split: np.zeros(len(r), np.int32) for split, r in records.items()}
    return scan(FoundImages("made", ("all",), records, labels), DataConfig("made"))


def test_exact_copies_are_those_that_sorting_finds():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 60, 300)
    images = looked_at([digit(row) for row in rows[:200]], map(digit, rows[200:]))
    copies = find_exact(images)
    assert (images.name(7), images.name(207)) == ("train/7", "test/7")
    train, test = rows[:200], rows[200:]
    expected = {200 + i for i, row in enumerate(test) if row in train}
    assert {pair.second for pair in copies.between_splits} == expected
    assert all(
        rows[p.first] == rows[p.second]
        for p in copies.between_splits + copies.within_split
    )
    repeats = len(train) - len({*train}) + len(test) - len({*test})
    assert len(copies.within_split) == repeats


def recompressed(image):
    return Image.open(io.BytesIO(encoded(image, "JPEG", quality=60)))


def tinted(image):
    return Image.merge(
        "RGB", [image.point(lambda v, f=f: f * v) for f in (1, 0.8, 0.5)]
    )


CHANGES = {
    "recompressed": recompressed,
    "half as large": lambda image: image.resize((16, 16)),
    "twice as large": lambda image: image.resize((64, 64), Image.Resampling.LANCZOS),
    "dark": lambda image: image.point(lambda level: 0.6 * level),
    "faded": lambda image: image.point(lambda level: 60 + 0.5 * level),
    "tinted": tinted,
    "mirrored": ImageOps.mirror,
    "shifted": lambda image: moved(image, right=2, down=-2),
    "cropped": lambda image: image.crop((2, 2, 30, 30)).resize((32, 32)),
    "framed": lambda image: ImageOps.expand(image, 3, 255),
}


def test_each_kind_of_change_pairs_with_its_original_alone():
    # More than the 256 of a block, and originals at the ends of blocks.
    train = [digit(row, 32) for row in range(600)]
    rows = [0, 255, 256, 511, 512, 599, 100, 200, 300, 400]
    changed = zip(CHANGES.values(), rows, strict=True)
    found = find_near(looked_at(train, [change(train[row]) for change, row in changed]))
    likeliest = {}
    for pair in found.between_splits:
        likeliest.setdefault(pair.second - 600, pair)
    missed = {
        name
        for test, (name, row) in enumerate(zip(CHANGES, rows, strict=True))
        if test not in likeliest or likeliest[test].first != row
    }
    assert not missed
    surely = [
        pair for pair in found.between_splits + found.within_split if pair.band == SURE
    ]
    assert {(pair.first, pair.second) for pair in surely} <= {
        (row, 600 + test) for test, row in enumerate(rows)
    }
    assert len(surely) >= 8


def test_what_lies_where_is_told_of_the_second_image():
    thumbnails = np.stack([np.asarray(digit(row, 32), np.float32) for row in range(60)])
    shifted = np.asarray(moved(digit(7, 32), right=3, down=-2), np.float32)
    for order in (1, -1):  # which of the two is laid over the other
        both = np.concatenate([thumbnails, shifted[None]])[::order]
        both -= both.mean((1, 2), keepdims=True)
        pairs = candidates.find(both, np.zeros(61, bool))
        pairs, _ = alignment.compare(both, np.ones(61), pairs, 6, fine=True)
        here, there = (7, 60) if order == 1 else (53, 0)
        forth = (pairs.image == here) & (pairs.other == there)
        back = (pairs.image == there) & (pairs.other == here)
        (place,) = np.flatnonzero(forth | back)
        down, right, _ = pairs.start[place] * (1 if forth[place] else -1)
        assert (right, down) == pytest.approx((3 / 32, -2 / 32), abs=0.005)


def test_the_most_alike_of_all_is_found_whatever_its_group():
    rng = np.random.default_rng(0)
    members, groups, size = 3, 128, candidates.SIDE**2
    others = rng.normal(size=(2, members * groups, size)).astype(np.float32)
    others /= np.linalg.norm(others, axis=2, keepdims=True)
    views = rng.normal(size=(10, 20, size)).astype(np.float32)
    views /= np.linalg.norm(views, axis=2, keepdims=True)
    kinds = [kind for _, kind in candidates.VIEWS] * 2
    every = np.stack([v @ others[k].T for v, k in zip(views, kinds, strict=True)])
    grouped = others.reshape(2, members, groups, size)
    similarity, column, view = candidates._best(views, grouped, 4)
    np.testing.assert_array_equal(column[:, 0], every.max(0).argmax(1))
    np.testing.assert_allclose(similarity[:, 0], every.max((0, 2)), rtol=1e-5)
    found = every[view, np.arange(20)[:, None], column]
    np.testing.assert_allclose(similarity, found, rtol=1e-5)


def test_a_search_never_holds_the_likeness_of_all_pairs():
    images = 2**20
    shape = 2, candidates.MEMBERS, images // candidates.MEMBERS, candidates.SIDE**2
    views = jax.ShapeDtypeStruct((10, candidates.BLOCK, shape[-1]), np.float32)
    others = jax.ShapeDtypeStruct(shape, np.float32)
    best = functools.partial(candidates._best, count=7)
    sizes = [math.prod(shape) for shape in _shapes(jax.make_jaxpr(best)(views, others))]
    assert max(sizes) <= math.prod(shape)


def _shapes(program):
    """The shapes of all that a program computes, in its loops too."""
    for equation in program.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _shapes(inner)


def test_a_table_of_copies_names_files_whose_names_are_no_text(tmp_path):
    name = os.fsencode(tmp_path) + b"/cells/train/0/caf\xe9.png"
    place = tmp_path / "cells"
    for split in ("train", "test"):
        for row in range(3):
            label, other = str(row % 2), row + 3 * (split == "test")
            write(place / split / label / f"{split}{row}.png", other)
    with open(name, "wb") as file:
        file.write(encoded(digit(4), "PNG"))
    options = DataConfig("folder", path=str(place))
    images = scan(find(options), options)
    path = tmp_path / "near_copies.csv"
    path.write_bytes(report.copies_table(images, find_exact(images)))
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["likeness"], row["sure"]) == ("1.0000", "same pixels")
    assert (place / row["path"]).read_bytes() == encoded(digit(4), "PNG")
    assert os.fsencode(place / row["path"]) == name


def test_a_table_of_copies_keeps_a_space_at_the_beginning_of_a_path(tmp_path):
    place = tmp_path / "cells"
    for name in (" a/1.png", " a/2.png", "b/3.png", "b/4.png"):
        write(place / name, 1 if name[0] == " " else int(name[2]))
    options = DataConfig("folder", path=str(place), test_fraction=0)
    images = scan(find(options), options)
    path = tmp_path / "near_copies.csv"
    path.write_bytes(report.copies_table(images, find_exact(images)))
    left_out = Exclusions(str(path))
    assert left_out.matches(" a/2.png")
    assert left_out.notes() != ()


def test_copies_in_three_splits_are_paired_across_all_of_them():
    images = [[digit(row) for row in rows] for rows in (range(30), [40, 41], [42])]
    near = encoded(images[0][0].resize((7, 7)).resize((8, 8)), "PNG")
    images[1].append(images[0][0])
    images[2].append(images[0][0])
    records = dict(
        zip(("train", "validation", "test"), map(InMemory, images), strict=True)
    )
    records["train"].contents[5] = near
    labels = {split: np.zeros(len(r), np.int32) for split, r in records.items()}
    found = scan(FoundImages("made", ("all",), records, labels), DataConfig("made"))
    exact = [pair[:2] for pair in find_exact(found).between_splits]
    assert exact == [(0, 32), (0, 34), (32, 34)]
    between = {pair[:2] for pair in find_near(found).between_splits}
    assert between >= {(5, 32), (5, 34)}


@pytest.mark.parametrize("mode", ["gray", "color"])
def test_sixteen_bits_of_which_eight_are_used_are_compared(mode):
    """Pillow reads the upper bytes of a color image, which are empty here."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint16)
    if mode == "gray":
        contents = [encoded(Image.fromarray(each[..., 0]), "PNG") for each in levels]
    else:
        contents = [png(each, 16, 2) for each in levels]
    records = {"train": InMemory([]), "test": InMemory([])}
    records["train"].contents = [*contents[:10], contents[0]]
    records["test"].contents = contents[9:]
    labels = {split: np.zeros(len(r), np.int32) for split, r in records.items()}
    found = scan(FoundImages("made", ("all",), records, labels), DataConfig("made"))
    copies = find_exact(found)
    assert [pair[:2] for pair in copies.between_splits] == [(9, 11)]
    assert [pair[:2] for pair in copies.within_split] == [(0, 10)]
    assert (contrast(found) > MIN_CONTRAST).all()


@pytest.mark.parametrize("color_type", [2, 6], ids=["opaque", "transparent"])
def test_colors_of_sixteen_bits_are_compared_whole(color_type):
    """Levels of twelve bits, whose upper bytes are almost the same."""
    rng = np.random.default_rng(0)
    levels = rng.integers(256, 512, (6, 32, 32, 3), dtype=np.uint16)
    levels[:, 0, 0] = 4095
    if color_type == 6:
        alpha = np.full((6, 32, 32, 1), 65535, np.uint16)
        alpha[:, :4] = 0
        levels = np.concatenate([levels, alpha], -1)
    contents = [png(each, 16, color_type) for each in levels]
    records = {"train": InMemory([]), "test": InMemory([])}
    records["train"].contents, records["test"].contents = contents[:4], contents[3:]
    labels = {split: np.zeros(len(r), np.int32) for split, r in records.items()}
    found = scan(FoundImages("made", ("all",), records, labels), DataConfig("made"))
    assert [pair[:2] for pair in find_exact(found).between_splits] == [(3, 4)]
    assert find_exact(found).within_split == []
    assert len(np.unique(found.fingerprints.thumbnails, axis=0)) == 6


def test_sixteen_bits_of_gray_are_the_same_in_color():
    gray = np.random.default_rng(0).integers(0, 4096, (32, 32), dtype=np.uint16)
    images = [
        read_info_and_image(content)[1]
        for content in (png(gray, 16, 0), png(np.dstack([gray] * 3), 16, 2))
    ]
    found = compute_fingerprints(images)
    assert found.pixels[0] == found.pixels[1]
    np.testing.assert_allclose(*found.thumbnails, atol=0.01)


def test_sixteen_bits_are_compared_whole():
    rng = np.random.default_rng(0)
    faint = [
        Image.fromarray((30000 + rng.normal(0, 300, (64, 64))).astype(np.uint16))
        for _ in range(4)
    ]
    changed = Image.fromarray(np.asarray(faint[2]) + np.uint16(500))
    images = looked_at(faint, [faint[1], changed])
    assert [pair[:2] for pair in find_exact(images).between_splits] == [(1, 4)]
    assert [pair[:2] for pair in find_near(images).between_splits] == [(2, 5)]
