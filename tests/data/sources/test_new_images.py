"""Other images in the form of a run: with labels, and without."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import lazy_images
from hybrid_jax.data.image_io import read_head
from hybrid_jax.data.lazy_images import Files
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.data.sources import new_images
from hybrid_jax.data.sources.found_files import find_files, left_out_notes
from hybrid_jax.data.sources.new_images import (
    decode_batches,
    load_labeled,
)
from hybrid_jax.errors import UserError
from tests.data.files import digit, write, write_folder

FORM = PixelFormat((24, 24), 1)
CLASSES = ("digit 0", "digit 1", "digit 2")


@pytest.fixture
def oblong(tmp_path):
    """Color images of several shapes, and the data set that is made of them."""
    rng = np.random.default_rng(0)
    place = tmp_path / "cells"
    for split, count in (("train", 6), ("test", 4)):
        for number in range(count):
            size = (*rng.integers(20, 70, 2), 3)
            path = place / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(path)
    return place


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("loader", ["resident", "stream"])
def test_images_are_decoded_as_the_runs_own(oblong, tmp_path, fit, loader):
    fields = {"path": str(oblong), "image_size": (16, 20), "fit": fit}
    own = data.load(
        DataConfig("folder", str(tmp_path / "kept"), **fields, validation=0)
    )
    before = sorted(oblong.rglob("*"))
    other = load_labeled(str(oblong), own.form, own.classes, "test", loader=loader)
    assert other.split.resident == (loader == "resident")
    np.testing.assert_array_equal(other.split.labels, own.test.labels)
    np.testing.assert_array_equal(other.split.extents, own.test.extents)
    assert other.split.shape == (4, 32, 40, 3)
    (predicted,) = decode_batches(Files(other.paths), own.form, 8)
    np.testing.assert_array_equal(predicted.extents, own.test.extents)
    rows = np.arange(4)
    for row, (h, w) in enumerate(own.test.extents):
        expected = own.test.images[row][:h, :w]
        np.testing.assert_array_equal(other.split.images[rows][row, :h, :w], expected)
        np.testing.assert_array_equal(predicted.images[row, :h, :w], expected)
    assert sorted(oblong.rglob("*")) == before


def test_classes_are_numbered_as_the_runs(tmp_path):
    write_folder(tmp_path / "cells", each=2, classes=2)
    for classes in (CLASSES, CLASSES[::-1]):
        found = load_labeled(str(tmp_path / "cells"), FORM, classes)
        names = [path.parent.name for path in found.paths]
        assert [classes[label] for label in found.split.labels] == names
        assert found.notes == ("1 of 3 classes have no image here: 'digit 2'",)
    write(tmp_path / "cells" / "digt 2" / "9.png", 2)
    with pytest.raises(UserError, match=r"'digt 2' \(1 image, did you mean 'digit 2'"):
        load_labeled(str(tmp_path / "cells"), FORM, CLASSES)


def test_a_split_is_named_where_there_are_any(tmp_path):
    place = tmp_path / "cells"
    for split, each in (("train", 3), ("val", 2)):
        write_folder(place / split, each=each)
    table = place / "t.csv"
    lines = [
        f"{path.relative_to(place)},{path.parent.name},{path.parts[-3]}"
        for path in sorted(place.rglob("*.png"))
    ]
    table.write_text("\n".join(["path,label,split", *lines]))
    for path in (place, table):
        assert len(load_labeled(str(path), FORM, CLASSES, "validation").paths) == 6
        assert len(load_labeled(str(path), FORM, CLASSES, "train").paths) == 9
        for split, said in (("", "so one must be named"), ("test", "and no test")):
            with pytest.raises(UserError, match=f"splits train, validation, {said}"):
                load_labeled(str(path), FORM, CLASSES, split)
    lines = [line.replace("val", "holdout") for line in lines if ",val" in line]
    table.write_text("\n".join(["path,label,Set", *lines]).replace("holdout/", "val/"))
    with pytest.raises(UserError, match="no split in its column Set, but 'holdout': "):
        load_labeled(str(table), FORM, CLASSES, "test")
    (alone,) = load_labeled(str(place / "val"), FORM, CLASSES, "test").notes
    assert alone.endswith("val has no splits: all of its images are used")
    (place / "train").rename(tmp_path / "elsewhere")
    assert len(load_labeled(str(place), FORM, CLASSES, "validation").paths) == 6


def test_groups_of_other_images_are_those_of_their_table_or_path(tmp_path):
    place = write_folder(tmp_path / "cells", each=3)
    table = place / "t.csv"
    paths = sorted(path.relative_to(place).as_posix() for path in place.rglob("*.png"))
    rows = [f"{path},{path[:7]},p{n % 2}" for n, path in enumerate(paths)]
    table.write_text("\n".join(["path,label,patient", *rows]))
    found = load_labeled(str(table), FORM, CLASSES)
    assert found.split.groups.tolist() == [f"p{n % 2}" for n in range(len(paths))]
    both = load_labeled(str(table), FORM, CLASSES, group=r"(\d)\.png")
    assert both.split.groups.tolist() == found.split.groups.tolist()
    assert both.notes == (
        "groups are those of the column patient, not of "
        r"config.data.group=(\d)\.png",
    )
    found = load_labeled(str(place), FORM, CLASSES, group=r"(\d)\.png")
    assert found.split.groups.tolist() == [path.stem[-1] for path in found.paths]
    other = load_labeled(str(place), FORM, CLASSES, group="patient(\\d)")
    assert other.split.groups is None
    assert "intervals take the images as independent: " in other.notes[0]
    table.write_text("\n".join(["path,label,patient", *rows[:-1], rows[-1][:-2]]))
    with pytest.raises(UserError, match="line 10: it has no patient"):
        load_labeled(str(table), FORM, CLASSES)


def test_a_table_names_each_file_once_or_says_so(tmp_path):
    place = write_folder(tmp_path / "cells", each=2)
    first = next((place / "digit 0").iterdir()).relative_to(place).as_posix()
    table = place / "t.csv"
    rows = [f"{first},digit 0", f"./{first},digit 0"]
    table.write_text("\n".join(["path,label", *rows]))
    notes = load_labeled(str(table), FORM, CLASSES).notes
    assert "1 row names an image that another row names too" in notes
    table.write_text("\n".join(["path,label", *rows, f"{first},digit 1"]))
    with pytest.raises(UserError, match="named twice, as 'digit 0' and as 'digit 1'"):
        load_labeled(str(table), FORM, CLASSES)
    (place / "digit 1" / "9.png").symlink_to(place / first)
    with pytest.raises(UserError, match="link, as 'digit 0' and as 'digit 1': remove"):
        load_labeled(str(place), FORM, CLASSES)


def test_images_that_cannot_be_read_stop_or_are_skipped(tmp_path):
    place = write_folder(tmp_path / "cells", each=2)
    next((place / "digit 1").iterdir()).write_bytes(b"")
    with pytest.raises(
        UserError, match=r"1 of the 6 cells images cannot be read.*skip"
    ):
        load_labeled(str(place), FORM, CLASSES)
    found = load_labeled(str(place), FORM, CLASSES, on_error="skip")
    assert np.bincount(found.split.labels).tolist() == [2, 1, 2]
    assert "1 image skipped" in found.notes[0]
    with pytest.raises(UserError, match="nowhere does not exist"):
        load_labeled(str(tmp_path / "nowhere"), FORM, CLASSES)


def test_color_turns_gray_with_a_word(tmp_path):
    for label in range(2):
        path = tmp_path / "cells" / f"digit {label}" / "1.png"
        path.parent.mkdir(parents=True)
        digit(label).convert("RGB").save(path)
    found = load_labeled(str(tmp_path / "cells"), FORM, CLASSES)
    assert "2 images in color turned to gray" in found.notes[0]
    np.testing.assert_array_equal(found.split.images[1, ..., 0], np.asarray(digit(1)))


@pytest.mark.parametrize(
    ("mode", "form", "said"),
    [
        ("RGB", {}, "in color turned to gray, as the run's are"),
        ("L", {"channels": 3}, "in gray read as color, as the run's are"),
        ("I;16", {"bits": 12}, "of 16 bits, whose levels are divided by 16"),
        ("L", {"bits": 12}, "of 8 bits, where the run has some of 16: 255 is the "),
        ("L", {}, ""),
        ("RGBA", {"channels": 3}, ""),
    ],
)
def test_what_is_unlike_the_images_of_the_run_is_said(mode, form, said, tmp_path):
    digit(1).convert(mode).save(tmp_path / "1.png")
    form = dataclasses.replace(FORM, **form)
    (batch,) = decode_batches(Files([tmp_path / "1.png"]), form, 4)
    assert batch.errors == [""]
    (found,) = batch.differences
    assert len(found) == bool(said)
    assert all(each.startswith(said) for each in found)


def test_levels_beyond_the_depth_of_the_run_are_counted_and_named(tmp_path):
    for row, top in enumerate((4095, 4096, 60000)):
        levels = np.full((24, 24), top, np.uint16)
        place = tmp_path / "cells" / f"digit {row % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(place / f"{row}.png")
    form, tally = dataclasses.replace(FORM, bits=12), new_images.Tally()
    found = load_labeled(str(tmp_path / "cells"), form, CLASSES)
    (batch,) = decode_batches(Files(found.paths), form, 4)
    for path, differences in zip(batch.names, batch.differences, strict=True):
        tally.add(path, differences)
    first = found.paths[1]
    said = "2 images of 16 bits with levels above 4095, which become white; the first"
    assert f"{said} is {first}" in found.notes
    assert tally.notes()[1] == f"{said} is {first}"


def test_files_are_found_by_name_folder_and_pattern(tmp_path):
    place = write_folder(tmp_path / "cells", each=2, classes=2)
    files = sorted(place.rglob("*.png"))
    (place / "notes.txt").write_text("mine")
    odd = write(tmp_path / "cell[1].png", 1)
    assert find_files([place]) == files
    others, again = left_out_notes([place, place / "digit 0"])
    assert others == "1 other file left out: 1 .txt"
    assert again == (
        f"2 images named more than once, with one row each: {files[0]}, {files[1]}"
    )
    assert left_out_notes(files) == ()
    (up := place / "up").symlink_to("..")
    assert left_out_notes([place])[1:] == (f"1 link to a folder above left out: {up}",)
    up.unlink()
    write(place / "@eaDir" / "thumb.png", 1)
    assert left_out_notes([place])[1:] == (
        "folders of file servers or systems left out: 1 @eaDir",
    )
    shutil.rmtree(place / "@eaDir")
    assert find_files([files[3], place, str(place / "*" / "*.png")]) == [
        files[3],
        *files[:3],
    ]
    assert find_files([str(tmp_path / "**" / "*.png")]) == sorted([*files, odd])
    assert find_files([str(odd)]) == [odd]  # no pattern, since it is there
    for up in (place / "up", tmp_path / "self"):
        up.symlink_to("..")  # glob would follow them again and again
    everything = str(tmp_path / "**" / "*.png")
    assert find_files([everything]) == sorted([*files, odd])
    assert left_out_notes([everything]) == (
        f"2 links to a folder above left out: {place / 'up'}, {tmp_path / 'self'}",
    )
    run2, hidden = tmp_path / "runs" / "run2", tmp_path / ".own"
    for folder in (run2, hidden):
        write(folder / "1.png", 1)
    (tmp_path / "runs" / "latest").symlink_to("run2")
    for pattern in ("**/run2/*.png", "runs/**/run*/1.png", "runs/**/run2"):
        assert find_files([str(tmp_path / pattern)]) == [run2 / "1.png"]
    linked = run2.with_name("latest") / "1.png"
    assert find_files([str(tmp_path / "runs" / "**" / "*.png")]) == [linked]  # once
    assert find_files([str(tmp_path / "**" / ".own" / "*.png")]) == [hidden / "1.png"]
    write(run2 / "@eaDir" / "1.png", 1)
    *_, left = left_out_notes([str(tmp_path / "runs" / "**" / "*.png")])
    assert left == "folders of file servers or systems left out: 1 @eaDir"
    shutil.rmtree(tmp_path / "runs")
    write(place / ".hidden.png", 1)
    assert find_files([str(tmp_path / "**")]) == sorted([*files, odd])
    assert find_files([str(tmp_path / "**" / "digit*")]) == files
    (place / "written.csv").touch()
    assert len(left_out_notes([place], written=place / "written.csv")) == 2
    (tmp_path / "empty").mkdir()
    for given, said in (
        ("nowhere.png", "does not exist"),
        ("*.jpg", "matches no file"),
        ("empty", "holds no image"),
        ("gs://bucket/a.png", "mount a bucket"),
    ):
        path = given if ":" in given else str(tmp_path / given)
        with pytest.raises(UserError, match=said):
            find_files([files[0], path])
    with pytest.raises(UserError, match="no image is named"):
        find_files([])


def test_what_cannot_be_read_has_an_error_and_zeros(tmp_path):
    paths = [write(tmp_path / f"{row}.png", row) for row in range(5)]
    paths[1].write_bytes(b"none")
    paths[3].unlink()
    first, second = decode_batches(Files(paths), FORM, 3)
    assert first.names + second.names == [*map(str, paths)]
    errors = first.errors + second.errors
    assert [bool(error) for error in errors] == [False, True, False, True, False]
    assert errors[3] == "it does not exist"
    images = np.concatenate([first.images, second.images])
    assert images.shape == (5, 24, 24, 1)
    for row in range(5):
        expected = np.zeros((24, 24)) if errors[row] else np.asarray(digit(row))
        np.testing.assert_array_equal(images[row, ..., 0], expected)
    assert first.extents is None


def test_photographs_that_lie_on_their_side_fill_what_stands(tmp_path):
    photo = Image.fromarray(np.arange(40 * 60, dtype=np.uint8).reshape(40, 60))
    exif = photo.getexif()
    exif[0x0112] = 6
    paths = [tmp_path / "1.png", tmp_path / "1.tif"]
    for path in paths:
        photo.save(path, exif=exif)
        assert read_head(path.read_bytes())[:2] == (60, 40)
    form = PixelFormat((48, 48), 1, target=(24, 24))
    (batch,) = decode_batches(Files(paths), form, 4)
    assert batch.errors == ["", ""]
    height, width = batch.extents[0]
    assert height > width
    np.testing.assert_array_equal(batch.extents[0], batch.extents[1])
    np.testing.assert_array_equal(batch.images[0], batch.images[1])


def test_few_batches_are_in_memory(tmp_path, monkeypatch):
    paths = [write(tmp_path / "1.png", 1)] * 60
    read = []

    def read_file(path):
        read.append(path)
        return path.read_bytes()

    monkeypatch.setattr(lazy_images, "read_file", read_file)
    some = decode_batches(Files(paths), FORM, 4)
    for taken in range(1, 6):
        next(some)
        assert len(read) <= 4 * (taken + new_images.PREFETCH_BATCHES)
    some.close()
    assert len(read) < 60
