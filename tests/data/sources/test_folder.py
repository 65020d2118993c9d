"""A user's own images: how they may lie, and what may be wrong with them."""

import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.decode_cache import MAX_OLD_CACHES
from hybrid_jax.data.sources import folder
from hybrid_jax.data.sources.file_list import list_images
from hybrid_jax.errors import UserError
from tests.data.files import digit, encoded, folder_config, write, write_folder


@pytest.fixture
def place(tmp_path):
    return tmp_path / "my cells"


def load(place, tmp_path, **options):
    return data.load(
        DataConfig(
            "folder",
            str(tmp_path / "kept"),
            path=str(place),
            **{"validation": 0} | options,
        )
    )


def names(files):
    return [path.name for path in files.paths]


def test_a_folder_of_classes_is_split_by_a_share_of_each(place, tmp_path):
    write_folder(place, each=10)
    splits = load(place, tmp_path)
    assert splits.classes == ("digit 0", "digit 1", "digit 2")
    assert np.bincount(splits.train.labels).tolist() == [8, 8, 8]
    assert np.bincount(splits.test.labels).tolist() == [2, 2, 2]
    assert splits.train.images.shape == (24, 24, 24, 1)  # gray, as they are
    listed = list_images(folder_config(place))
    for split in ("train", "test"):
        for path, pixels in zip(
            getattr(listed, split).paths, getattr(splits, split).images, strict=True
        ):
            np.testing.assert_array_equal(pixels[..., 0], np.asarray(Image.open(path)))
    other = list_images(folder_config(place, 0.2, 1))
    assert names(other.test) != names(listed.test)


@pytest.mark.parametrize(
    ("folder", "split"),
    [("test", "test"), ("val", "validation"), ("Validation", "validation")],
)
def test_splits_of_the_user_are_kept_and_classes_are_their_union(folder, split, place):
    write(place / "train" / "b" / "1.png", 1)
    write(place / "train" / "a" / "0.png", 0)
    write(place / "train" / "c" / "deeper" / "2.PNG", 2)
    write(place / folder / "c" / "3.png", 3)  # a and b are missing there
    listed = list_images(folder_config(place))
    assert listed.classes == ("a", "b", "c")
    assert names(listed.train) == ["0.png", "1.png", "2.PNG"]
    assert listed.train.labels.tolist() == [0, 1, 2]
    assert [*listed.splits] == ["train", split]
    held = listed.splits[split]
    assert (names(held), held.labels.tolist()) == (["3.png"], [2])


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAINING", "Testing")])
def test_splits_are_known_in_any_case(names, place):
    for name in names:
        lay_out(place / name, "a/1.png", "b/2.png")
    listed = list_images(folder_config(place))
    assert listed.classes == ("a", "b")
    assert (len(listed.train.paths), len(listed.test.paths)) == (2, 2)


def test_the_three_splits_of_a_table_and_of_folders(place):
    splits = ("Train", "Train", "val", "Valid", "test", "test")
    lay_out(place / "flat", *(f"{row}.png" for row in range(6)))
    rows = [f"flat/{row}.png,{row % 2},{split}" for row, split in enumerate(splits)]
    table = place / "t.csv"
    table.write_text("path,label,split\n" + "\n".join(rows) + "\n")
    for split, row in (("train", 0), ("val", 2), ("test", 4)):
        for label in (0, 1):
            write(place / "deep" / split / str(label) / f"{row + label}.png", row)
    for listed in (list_images(folder_config(p)) for p in (table, place / "deep")):
        assert {split: names(of) for split, of in listed.splits.items()} == {
            "train": ["0.png", "1.png"],
            "validation": ["2.png", "3.png"],
            "test": ["4.png", "5.png"],
        }
        assert not listed.held_out


def test_names_with_spaces_and_in_other_scripts(place):
    composed, decomposed = (
        unicodedata.normalize(form, "Zellkörper") for form in ("NFC", "NFD")
    )
    write(place / "train" / composed / "ein bild ü.png", 0)
    write(place / "train" / "細胞 2" / "像.png", 1)
    write(place / "test" / decomposed / "bild.png", 2)
    write(place / "test" / "細胞 2" / "bild.png", 3)
    listed = list_images(folder_config(place))
    assert listed.classes == (composed, "細胞 2")
    assert listed.test.labels.tolist() == [0, 1]


MORE = ((1, 5), (3, 10))


def test_a_table_of_paths_and_labels(place, tmp_path):
    for row in range(4):
        write(place / "images" / f"{row}.png", row)
    table = place / "labels.csv"
    lines = [
        f"images/{row}.png,{row * 5},{['train', 'test'][row > 1]}" for row in (0, 2)
    ]
    lines += [f'"{place}/images/{row}.png",{label},train' for row, label in MORE]
    table.write_text("\ufefffilename,Label,split\n" + "\n".join(lines) + "\n")
    listed = list_images(folder_config(table))
    assert listed.classes == ("0", "5", "10")  # by number
    assert listed.train.labels.tolist() == [0, 1, 2]
    assert listed.test.labels.tolist() == [2]
    splits = load(table, tmp_path)
    assert splits.train.images.shape == (3, 24, 24, 1)
    table.write_text("path\tlabel\nimages/0.png\ta\nimages/9.png\tb\n")
    shutil.move(table, table.with_suffix(".tsv"))
    with pytest.raises(
        UserError,
        match=r"names files that do not exist .1; .*: images/9.png \(line 3\)",
    ):
        list_images(folder_config(str(table.with_suffix(".tsv"))))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,kind\n", "has the columns 'path', 'kind', and none is called label"),
        ("path,label\n", "has no rows"),
        ("", "is empty: give a table with a column path or"),
        ("path,label\n1.png,\n", "line 2: a path, a label"),
        ("path,label,split\n1.png,a,later\n", "no split in its column split, but 'la"),
        ("path,label,split\n1.png,a,train\n", "needs rows of train and of"),
        ("path,label\n\x00\udcff", "cannot be read as a table"),
    ],
    ids=["columns", "rows", "empty", "label", "split", "train", "binary"],
)
def test_tables_that_are_none(content, said, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as error:
        list_images(folder_config(table))
    assert said in str(error.value)


def lay_out(place, *names):
    for row, name in enumerate(names):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(digit(row), "PNG"))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["1.png", "2.png"], "images, but not in folders by class"),
        (["a.svg"], "images, but not in folders by class"),
        (["cells/a/1.png", "cells/b/2.png"], "one class, 'cells'"),
        (["train/a/1.png", "train/b/2.png"], "no folder 'test'"),
        (["test/a/1.png", "test/b/2.png"], "no folder 'train'"),
        (
            ["train/cats/1.png", "train/dogs/2.png", "test/Cats/3.png"],
            "class 'Cats' has images to test on and none to train on, did you mean "
            "'cats'?",
        ),
        (["a/1.png", "b/2.png", "b/3.png"], "class 'a' has 1 image"),
    ],
    ids=["loose", "drawing", "above", "no test", "no train", "slip", "one"],
)
def test_folders_that_are_laid_out_otherwise(files, said, place):
    lay_out(place, *files)
    with pytest.raises(UserError) as error:
        list_images(folder_config(place))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(UserError, match=r"path='\S+/nowhere' does not exist"):
        load(tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match=r"config\.data\.path is missing"):
        data.load(DataConfig("folder", validation=0))


@pytest.fixture
def damaged(place):
    """Three good images of each of two classes, and offenders among the training."""
    for split in ("train", "test"):
        write_folder(place / split, each=3, classes=2)
    jpeg = encoded(digit(5), "JPEG")
    offenders = {
        "digit 0/cut off.jpg": jpeg[: len(jpeg) // 2],
        "digit 0/empty.png": b"",
        "digit 1/tëxt.png": b"no image",
        "digit 1/a portable gray map.jpg": encoded(digit(6), "PPM"),
    }
    for name, content in offenders.items():
        (place / "train" / name).write_bytes(content)
    return place, list(offenders)


def test_offenders_are_all_named_and_stop_the_run(damaged, tmp_path):
    place, offenders = damaged
    with pytest.raises(UserError) as error:
        load(place, tmp_path)
    assert "4 of the 10 train images cannot be read" in str(error.value)
    assert "config.data.on_error=skip" in str(error.value)
    for name in offenders:
        assert name in str(error.value)
    assert "empty.png (it is empty)" in str(error.value)
    assert "a portable gray map.jpg (it is no JPEG" in str(error.value)


def test_offenders_are_skipped_and_counted_where_asked_for(damaged, tmp_path):
    place, offenders = damaged
    splits = load(place, tmp_path, on_error="skip")
    assert np.bincount(splits.train.labels).tolist() == [3, 3]
    (note,) = splits.notes
    assert note.startswith("4 images skipped, which cannot be read: ")
    assert all(name in note for name in offenders)
    (place / "test" / "digit 1" / "broken.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"1 of the 7 test images .*broken\.png"):
        load(place, tmp_path, on_error="skip")


def test_a_class_of_offenders_alone_is_told(place, tmp_path):
    lay_out(place, "train/a/1.png", "train/b/2.png", "test/a/3.png")
    (place / "train/b/2.png").write_bytes(b"")
    with pytest.raises(UserError, match="no image of class 'b' can be read"):
        load(place, tmp_path, on_error="skip")


def test_images_of_several_sizes_and_kinds_come_to_one(place, tmp_path):
    write(place / "train/a/1.png", 1, 30)
    write(place / "train/b/2.jpg", 2, 50, quality=90)
    color = Image.new("RGB", (70, 40), (10, 20, 30))
    (place / "test/a").mkdir(parents=True)
    color.save(place / "test/a/3.png")
    with pytest.raises(UserError, match=r"3 sizes, from 30x30 to 50x50: choose one"):
        load(place, tmp_path)
    splits = load(place, tmp_path, image_size=(20, 20))
    assert splits.train.images.shape == (2, 40, 40, 3)
    assert splits.train.extents.tolist() == [[30, 30], [40, 40]]
    assert splits.test.extents.tolist() == [[23, 40]]
    assert (splits.test.images[0] == [10, 20, 30]).all()


@pytest.mark.parametrize(
    ("image_size", "kept"),
    [
        ((), (24, 24)),
        ((16, 16), (24, 24)),  # resized on the device, where crops have room
        ((48, 48), (24, 24)),
        ((8, 8), (16, 16)),  # three times too large
        ((24, 16), (24, 24)),  # of another shape: what is seen is cut out in a step
    ],
    ids=str,
)
def test_images_of_one_size_are_kept_as_they_are_within_reason(
    image_size, kept, place, tmp_path
):
    write_folder(place)
    splits = load(place, tmp_path, image_size=image_size)
    assert splits.image_size == kept


def test_depth_is_that_of_the_whole_data_set(place, tmp_path):
    for i, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (place / name).mkdir(parents=True)
        levels = np.full((20, 20), 1000 * (i + 1), np.uint16)  # 12 bits
        Image.fromarray(levels).save(place / name / "1.png")
    splits = load(place, tmp_path)
    found = [*splits.train.images[:, 0, 0, 0], *splits.test.images[:, 0, 0, 0]]
    assert [int(level) for level in found] == [62, 125, 187, 250]


def test_a_broken_pixel_does_not_darken_all_images(place, tmp_path):
    for i in range(20):
        levels = np.full((16, 16), 4000, np.uint16)  # 12 bits
        levels[0, 0] = 65535 if i == 3 else 0
        folder = place / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(folder / f"{i}.png")
    splits = load(place, tmp_path)
    assert (splits.train.images[:, 1:] == 250).all()
    (note,) = [note for note in splits.notes if "white" in note]
    assert note.startswith("1 image of 16 bits with levels above 4095, which become")
    assert note.endswith("b/3.png")


def test_a_rare_bright_class_is_not_white(place, tmp_path):
    for i in range(40):
        levels = np.full((16, 16), 60000 if i % 20 == 0 else 4000, np.uint16)
        folder = place / "ab"[i % 20 == 0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(folder / f"{i}.png")
    splits = load(place, tmp_path)
    assert np.unique(splits.train.images).tolist() == [4000 >> 8, 60000 >> 8]
    (note,) = [note for note in splits.notes if "4095" in note]
    assert note.startswith("2 of 40 images of 16 bits have levels above 4095, unlike ")
    assert "divided by 256 instead of 16" in note
    assert note.endswith("b/20.png")


def test_a_second_load_looks_at_new_files_only(place, tmp_path, monkeypatch):
    write_folder(place)
    first = load(place, tmp_path)
    scanned = []
    scan = folder.scan_images
    monkeypatch.setattr(
        folder, "scan_images", lambda r, t: scanned.extend(r.paths) or scan(r, t)
    )
    again = load(place, tmp_path)
    assert scanned == []
    np.testing.assert_array_equal(again.train.images, first.train.images)
    changed = list_images(folder_config(place)).train.paths[0]
    write(changed, 1000, compress_level=0)
    changed_splits = load(place, tmp_path)
    assert scanned == [changed]
    assert (changed_splits.train.images[0] != first.train.images[0]).any()
    np.testing.assert_array_equal(
        changed_splits.train.images[1:], first.train.images[1:]
    )
    for seed in range(6):
        _ = load(place, tmp_path, split_seed=seed).train.images
    kept = [p for p in (tmp_path / "kept").rglob("decoded-train*") if p.is_dir()]
    assert len(kept) == 1 + MAX_OLD_CACHES  # the older ones are gone


def test_files_that_changed_have_another_fingerprint(place, tmp_path):
    write_folder(place)
    first = load(place, tmp_path)
    moved = place.rename(place.with_name("moved"))
    assert load(moved, tmp_path).fingerprint == first.fingerprint
    one = list_images(folder_config(moved)).train.paths[0]
    write(one, 1000, compress_level=0)
    assert load(moved, tmp_path).fingerprint != first.fingerprint


def test_nothing_is_written_to_the_users_folder(place, tmp_path):
    write_folder(place)
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    load(place, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == before


@pytest.mark.parametrize("letter", "xü")
def test_a_folder_may_have_the_longest_name_there_is(letter, tmp_path):
    place = write_folder(tmp_path / (letter * (250 // len(letter.encode()))), 3, 2)
    assert load(place, tmp_path).train.images.shape[1:] == (24, 24, 1)
    assert [*(tmp_path / "kept" / "folders").glob(f"{letter}*/decoded-train-*")]


def test_a_disk_that_cannot_be_written_costs_time_alone(place, tmp_path):
    write_folder(place)
    (tmp_path / "kept").write_text("a file where the folder should be")
    splits = load(place, tmp_path)
    assert splits.train.images.shape == (15, 24, 24, 1)


def test_parts_of_the_training_images(place, tmp_path):
    write_folder(place, each=10)
    whole = load(place, tmp_path)
    tenth = load(place, tmp_path, fraction=0.25)
    assert np.bincount(tenth.train.labels).tolist() == [2, 2, 2]
    np.testing.assert_array_equal(tenth.test.images, whole.test.images)
    assert tenth.notes == ("6 of 24 training images are used",)
    few = load(place, tmp_path, per_class=1, loader="stream")
    assert np.bincount(few.train.labels).tolist() == [1, 1, 1]
    assert not few.train.resident
    rows = {image.tobytes() for image in tenth.train.images}
    assert {few.train.images[[i]].tobytes() for i in range(3)} <= rows


def test_folds_leave_the_test_images_alone(place, tmp_path):
    write_folder(place, each=10)
    whole = load(place, tmp_path)
    held = []
    for number in (1, 2):
        splits = load(place, tmp_path, validation=f"{number}/2")
        assert [len(split) for split in splits.values()] == [12, 12, 6]
        assert f"fold {number} of 2" in splits.notes[0]
        np.testing.assert_array_equal(splits.test.images, whole.test.images)
        held += [image.tobytes() for image in splits.validation.images]
    assert sorted(held) == sorted(image.tobytes() for image in whole.train.images)
