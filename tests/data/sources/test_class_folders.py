"""Folders of images: nothing that looks like a class or an image is lost in silence."""

import os

import numpy as np
import pytest

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.exclusions import Exclusions
from hybrid_jax.data.sources.class_folders import read_folder, read_folder_split
from hybrid_jax.data.sources.file_list import find_images, list_images
from hybrid_jax.errors import UserError
from tests.data.files import digit, encoded, folder_config, write_folder

PNG = encoded(digit(0), "PNG")


@pytest.fixture
def place(tmp_path):
    return tmp_path / "cells"


def lay_out(place, *names):
    """Files with the bytes of an image, whatever they are called."""
    for name in names:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)


def classes_and_notes(place, wanted=SPLITS, **options):
    found = list_images(folder_config(place, 0.5, 0, **options), wanted)
    return found.classes, found.notes


def refused(place, wanted=SPLITS, **options):
    with pytest.raises(UserError) as error:
        list_images(folder_config(place, 0.5, 0, **options), wanted)
    assert "\n" not in str(error.value)
    return str(error.value)


TWO = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("a/train/1.png", "a/test/2.png", "b/train/1.png", "b/Val/2.png"),
            r"splits inside its classes (a/test, a/train): put classes inside splits",
        ),
        (
            ("train_images/a/1.png", "train_images/b/1.png", "test-images/a/1.png"),
            "has the folders test-images and train_images, which would be classes",
        ),
    ],
    ids=["in classes", "other names"],
)
def test_splits_that_would_be_lost_are_refused(names, said, place):
    lay_out(place, *names)
    assert said in refused(place)


@pytest.mark.parametrize(
    "names",
    [
        ("a/train/1.png", "a/2.png", "a/3.png", "b/train/1.png", "b/train/2.png"),
        (
            "model train/1.png",
            "model train/2.png",
            "test tube/1.png",
            "test tube/2.png",
        ),
        ("cat/train/1.png", "cat/test/1.png", "dog/1.png", "dog/2.png"),
    ],
    ids=["no other split", "names of things", "in one class"],
)
def test_classes_that_only_sound_like_splits_stay_classes(names, place):
    lay_out(place, *names)
    assert len(classes_and_notes(place)[0]) == 2


def dead_links(place):
    (place / "bird").mkdir()
    for row in range(3):
        (place / "bird" / f"{row}.txt").symlink_to("/nowhere")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda place: (place / "bird").mkdir(), "'bird' holds no image"),
        (dead_links, "'bird' holds no image, but 3 .txt"),
        (lambda place: lay_out(place, "bird/a/1.xml"), "holds no image, but 1 .xml"),
        (lambda place: (place / "bird").symlink_to("/no"), "'bird' is a link to a m"),
    ],
    ids=["empty", "links to text", "text", "dead"],
)
def test_a_class_without_images_is_named(make, said, place):
    lay_out(place, *TWO)
    make(place)
    assert said in refused(place)
    assert "config.data.exclude" in refused(place)
    (empty,) = find_images(folder_config(place, 0.5, 0)).empty
    assert said in empty
    listed = place.parent / "leave out.txt"
    listed.write_text("# not yet\nbird\n")
    assert classes_and_notes(place, exclude=str(listed))[0] == ("cat", "dog")


def test_a_split_that_is_a_link_to_nowhere_is_named(place, tmp_path):
    for split in ("train", "test"):
        lay_out(place, *(f"{split}/{name}" for name in TWO))
    (place / "Val").symlink_to("/nowhere")
    (place / "notes").symlink_to("/nowhere")
    assert ": folder 'Val' is a link to a missing folder: " in refused(place)
    assert classes_and_notes(place, {"train", "test"})[0] == ("cat", "dog")
    listed = tmp_path / "leave out.txt"
    listed.write_text("Val\n")
    assert classes_and_notes(place, exclude=str(listed))[0] == ("cat", "dog")


def test_other_spellings_of_formats_are_read(place, tmp_path):
    lay_out(place, *TWO, *(f"bird/{n}.{s}" for n, s in enumerate(["jfif", "JPE"])))
    splits = data.load(
        DataConfig("folder", str(tmp_path / "kept"), path=str(place), validation=0)
    )
    assert splits.classes == ("bird", "cat", "dog")
    assert len(splits.train) + len(splits.test) == 6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.rename(path.with_suffix(".heic")).write_bytes(b"ftypheic"),
        lambda path: (path.unlink(), path.symlink_to("/nowhere.png")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.with_suffix("").symlink_to("/nowhere")),
    ],
    ids=["format", "dead link", "pipe", "dead folder"],
)
def test_images_that_cannot_be_had_are_named_or_skipped(spoil, place, tmp_path):
    write_folder(place, each=4, classes=2)
    spoil(sorted((place / "digit 1").iterdir())[0])
    options = {"path": str(place), "test_fraction": 0.5}
    with pytest.raises(UserError, match=r"1 of the 4 \w+ images cannot be read"):
        data.load(DataConfig("folder", str(tmp_path / "kept"), **options, validation=0))
    splits = data.load(
        DataConfig(
            "folder", str(tmp_path / "kept"), **options, on_error="skip", validation=0
        )
    )
    assert len(splits.train) + len(splits.test) == 7
    assert splits.notes[0].startswith("1 image skipped, which cannot be read: ")


def test_what_may_not_be_read_is_named_and_looked_at_again(
    place, tmp_path, monkeypatch
):
    write_folder(place, each=4, classes=2)
    path = sorted((place / "digit 1").iterdir())[0]
    read_bytes = type(path).read_bytes

    def forbid(file):
        if file == path:
            raise PermissionError(13, "Permission denied", str(file))
        return read_bytes(file)

    options = {"path": str(place), "dir": str(tmp_path / "kept")}
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "read_bytes", forbid)
        with pytest.raises(UserError, match=r"\(Permission denied\)"):
            data.load(DataConfig("folder", **options, validation=0))
    assert len(data.load(DataConfig("folder", **options, validation=0)).train) == 6


def test_a_folder_that_cannot_be_listed_is_named(place, monkeypatch):
    lay_out(place, *TWO, "bird/1.png")
    scandir = os.scandir

    def forbid(path="."):
        if str(path).endswith("bird"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    assert "bird cannot be listed (Permission denied)" in refused(place)


def test_what_file_servers_leave_is_no_class(place):
    lay_out(place, *TWO, "@eaDir/1.png", "cat/@eaDir/1.png", "__MACOSX/cat/2.png")
    lay_out(place, ".ipynb_checkpoints/1.png", "cat/._1.png")
    assert classes_and_notes(place) == (
        ("cat", "dog"),
        ("folders of file servers or systems left out: 2 @eaDir, 1 __MACOSX",),
    )


def test_images_beside_classes_and_splits_are_counted(place):
    lay_out(place, *TWO, "logo.png", "map.tiff", "readme.txt")
    assert classes_and_notes(place)[1] == (
        "2 images in cells left out, beside its folders",
    )


def test_what_lies_beside_the_splits_is_counted(place):
    for split in ("train", "val", "test"):
        lay_out(place, *(f"{split}/{name}" for name in TWO))
    lay_out(place, "unlabelled/1.png", "docs/index.html")
    _, notes = classes_and_notes(place)
    assert notes == (
        "1 image in unlabelled left out: only train and val and test are used",
    )
    _, notes = classes_and_notes(place, wanted={"train", "test"})
    assert notes == (
        "1 image in unlabelled left out: only train and test are used",
        "4 images in val left out: only train and test are used",
    )


@pytest.mark.parametrize("names", [("Train", "train"), ("train", "training")])
def test_two_folders_of_one_split_are_refused(names, place):
    for split in (*names, "test"):
        lay_out(place, *(f"{split}/{name}" for name in TWO))
    assert f"more than one folder for train: {', '.join(names)}" in refused(place)


def test_classes_may_be_called_as_splits_are(place):
    lay_out(place, "train/1.png", "train/2.png", "valid/1.png", "valid/2.png")
    lay_out(place, "car/1.png", "car/2.png")
    assert classes_and_notes(place)[0] == ("car", "train", "valid")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("train/1.png", "val/1.png"), "name them in a table, a .csv"),
        (("train/a/1.png", "train/b/1.png"), "--config.data.path={place}/train"),
        (("train/a/1.png", "train/b/1.png"), "if 'train' is a class, name the images"),
        (("train/a/1.png", "train/b/1.png", "test/1.png"), "training images held out"),
    ],
    ids=["classes", "alone", "a class", "unlabelled test"],
)
def test_what_is_said_of_half_a_split_helps(files, said, place):
    lay_out(place, *files)
    assert said.format(place=place) in refused(place)


def test_names_of_one_class_are_called_alike(place):
    lay_out(place, "Cat/1.png", "cat/1.png", "dog /1.png", "dog/1.png")
    lay_out(place, *(f"{name}/{row}.png" for name in "Aa" for row in (1, 2)))
    lay_out(place, *(f"{name}/2.png" for name in ("Cat", "cat", "dog ", "dog")))
    classes, notes = classes_and_notes(place)
    assert len(classes) == 6
    assert notes == (
        "classes 'Cat' and 'cat' may be the same",
        "classes 'dog' and 'dog ' may be the same",
    )


def test_classes_of_two_unicode_forms_are_joined_with_a_note(place):
    forms = "caf\u00e9", "cafe\u0301"
    lay_out(place, *(f"{form}/{row}{form}.png" for form in forms for row in (1, 2)))
    lay_out(place, *TWO)
    classes, notes = classes_and_notes(place)
    assert classes == (forms[0], "cat", "dog")
    assert notes == (
        f"class {forms[0]!r} joins 2 names that look alike, and differ in their "
        "Unicode form",
    )


def test_names_that_are_not_utf8_are_escaped(place, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    lay_out(place, *(f"{name}/{row}{name}.png" for row in range(2)), *TWO)
    splits = data.load(
        DataConfig("folder", str(tmp_path / "kept"), path=str(place), validation=0)
    )
    assert splits.classes == (r"caf\xe9", "cat", "dog")
    (place / name / f"0{name}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"caf\\xe9/0caf\\xe9.png \(it is empty\)"):
        data.load(
            DataConfig("folder", str(tmp_path / "kept"), path=str(place), validation=0)
        )


def test_files_that_are_no_images_are_counted(place, tmp_path):
    lay_out(place, *TWO, "cat/1", "cat/2", "dog/more/1.jpg_large", "dog/1.TXT")
    lay_out(place, "readme.md", "cat/.DS_Store", "cat/Thumbs.db", "dog/@eaDir/1.xml")
    said = "4 other files left out: 2 without a suffix, 1 .txt, 1 .jpg_large"
    assert said in classes_and_notes(place)[1]
    listed = tmp_path / "listed.txt"
    listed.write_text("dog\n")
    lay_out(place, "cow/1.png", "cow/2.png")
    (*_, others) = classes_and_notes(place, exclude=str(listed))[1]
    assert others == "2 other files left out: 2 without a suffix"


def test_of_links_to_one_folder_the_first_is_listed(place):
    lay_out(place, *TWO, "cat/k/3.png")
    for name in "majzbqyc":
        (place / "cat" / name).symlink_to("k")
    paths = [entry.path for entry in read_folder(place, Exclusions()).entries]
    assert paths[2] == place / "cat" / "a" / "3.png"


def test_labels_of_one_number_have_one_order(place):
    lay_out(place, *(f"{name}/{row}.png" for name in ("1", "01", "2") for row in "ab"))
    assert classes_and_notes(place)[0] == ("01", "1", "2")


def test_a_link_to_a_folder_above_ends(place):
    lay_out(place, *TWO)
    (place / "cat" / "all").symlink_to(place)
    entries = read_folder(place, Exclusions()).entries
    assert len([entry for entry in entries if entry.label == "dog"]) == 2


def test_a_link_to_a_folder_above_is_not_followed_and_said(place):
    """Else it would put the images of another split into its class."""
    for split in ("train", "test"):
        lay_out(place, *(f"{split}/{name}" for name in TWO))
    (place / "test" / "cat" / "up").symlink_to("../..")
    tested = read_folder_split(place, "test")
    assert len(tested.entries) == 4
    assert tested.notes == ["1 link to a folder above left out: test/cat/up"]
    assert classes_and_notes(place)[1] == (*tested.notes,)


@pytest.mark.parametrize(
    ("link", "target", "said"),
    [
        ("test/cat/3.png", "../../train/cat/1.png", "in train and as 'cat' in test"),
        ("train/dog/3.png", "../cat/1.png", "as 'cat' in train and as 'dog' in train"),
        ("train/cow", "cat", "as 'cat' in train and as 'cow' in train"),
        ("train/dog/more", "../cat", "as 'cat' in train and as 'dog' in train"),
        ("train/all", ".", "as 'all' in train and as 'cat' in train"),
        ("train/cat/3.png", "1.png", "in train, of which a part is drawn"),
    ],
    ids=["splits", "classes", "class", "part", "all", "drawn"],
)
def test_a_file_in_two_places_through_a_link_is_refused(link, target, said, place):
    for split in ("train", "test"):
        lay_out(place, *(f"{split}/{name}" for name in TWO))
    (place / link).symlink_to(target)
    error = refused(place, validation=0.25)
    assert said in error
    assert " (also called " in error
    assert error.endswith("remove the link, or one of two links")


def test_links_that_part_no_image_are_counted(place):
    for split in ("train", "test"):
        lay_out(place, *(f"{split}/{name}" for name in TWO))
    (place / "train" / "cat" / "3.png").symlink_to("1.png")
    assert classes_and_notes(place, validation=0)[1] == (
        "1 image is a link to another image of the same class",
    )


def test_images_that_are_listed_are_left_out(place, tmp_path):
    write_folder(place, each=12, classes=2)
    whole = data.load(
        DataConfig("folder", str(tmp_path / "kept"), path=str(place), validation=0)
    )
    names = sorted(path.relative_to(place) for path in place.rglob("*.png"))
    listed = tmp_path / "listed.csv"
    listed.write_text(
        f'likeness,path,other\n0.99,"{names[0]}",x\n0.98,./{names[-1]},y\n'
    )
    options = {"path": str(place), "dir": str(tmp_path / "kept")}
    splits = data.load(
        DataConfig("folder", **options, exclude=str(listed), validation=0)
    )
    assert len(splits.train) + len(splits.test) == 22
    assert splits.notes == (f"2 images left out, listed in {listed}",)
    assert splits.fingerprint != whole.fingerprint
    (place / names[0]).write_bytes(b"no image")  # and is no longer asked for
    data.load(DataConfig("folder", **options, exclude=str(listed), validation=0))
    listed.write_text(f"path\n{names[0]}\nnot/there.png\n")
    with pytest.raises(UserError, match=r"match no image \(1 of 2\): not/there\.png"):
        data.load(DataConfig("folder", **options, exclude=str(listed), validation=0))
    listed.unlink()
    with pytest.raises(UserError, match=r"exclude=\S+listed\.csv is no file"):
        data.load(DataConfig("folder", **options, exclude=str(listed), validation=0))


def test_a_list_may_name_a_folder_and_a_file_in_it(place, tmp_path):
    lay_out(place, *TWO, "cat/blurred/3.png", "cat/blurred/4.png")
    listed = tmp_path / "listed.txt"
    listed.write_text("cat/blurred\ncat/blurred/3.png\n")
    notes = classes_and_notes(place, exclude=str(listed))[1]
    assert notes == (f"2 images left out, listed in {listed}",)


def test_a_number_sign_may_begin_a_path_or_a_comment(place, tmp_path):
    lay_out(place, *TWO, "#1/1.png", "#1/2.png", "#1/3.png")
    listed = tmp_path / "listed.txt"
    listed.write_text("# blurred\n#1/3.png\n")
    notes = classes_and_notes(place, exclude=str(listed))[1]
    assert notes == (f"1 image left out, listed in {listed}",)
    listed.write_text("#blurred\n#1/3.png\n")
    said = refused(place, exclude=str(listed))
    assert "match no image (1 of 2): #blurred; " in said
    assert said.endswith("; a comment begins with # and a space")


def test_a_list_of_exclusions_moves_no_image_into_the_test_split(place, tmp_path):
    write_folder(place, each=10, classes=3)
    names = sorted(f"{file.parent.name}/{file.name}" for file in place.rglob("*.png"))
    options = {"path": str(place), "group": r"(\d)\.png"}
    for grouped in (options, {"path": str(place)}):
        whole = list_images(DataConfig("folder", **grouped))
        for excluded in ("digit 1", names[0], names[14], f"{names[9]}\n{names[21]}"):
            listed = tmp_path / "listed.txt"
            listed.write_text(excluded)
            left = list_images(DataConfig("folder", **grouped, exclude=str(listed)))
            assert left.excluded
            for split in ("train", "test"):
                paths = {*whole.splits[split].paths} - {*left.excluded}
                assert {*left.splits[split].paths} == paths, (grouped, excluded)
                assert [path.parent.name for path in left.splits[split].paths] == [
                    left.classes[label] for label in left.splits[split].labels
                ]


def test_a_class_without_its_test_images_gets_another(place, tmp_path):
    write_folder(place, each=4, classes=2)
    whole = list_images(DataConfig("folder", path=str(place)))
    listed = tmp_path / "listed.txt"
    names = [path.relative_to(place).as_posix() for path in whole.test.paths]
    listed.write_text(names[0])
    left = list_images(DataConfig("folder", path=str(place), exclude=str(listed)))
    assert np.bincount(left.train.labels).tolist() == [2, 3]
    assert np.bincount(left.test.labels).tolist() == [1, 1]
    assert left.notes[-1].startswith("1 image moved between training and testing")
    names = [path.relative_to(place).as_posix() for path in whole.train.paths]
    listed.write_text("\n".join(names[:3]))
    assert "two are needed" in refused(place, exclude=str(listed))


def test_a_class_of_which_all_images_are_listed_is_named(place, tmp_path):
    lay_out(place, *TWO, "bird/1.png")
    listed = tmp_path / "listed.txt"
    listed.write_text("bird/1.png")
    assert "to leave out the whole class, list bird" in refused(
        place, exclude=str(listed)
    )


@pytest.mark.parametrize(
    ("split", "way_out"),
    [
        ("train", {}),
        ("val", {"validation": 0}),
        ("test", {"test": False}),
    ],
)
def test_a_list_of_all_images_of_a_split_is_refused(split, way_out, place, tmp_path):
    for folder in ("train", "val", "test"):
        lay_out(place, *(f"{folder}/{name}" for name in TWO))
    listed = tmp_path / "listed.txt"
    full = {"val": "validation"}.get(split, split)
    for names in ([split], [f"{split}/cat", f"{split}/dog"]):
        listed.write_text("\n".join(names))
        error = refused(place, exclude=str(listed))
        assert f"lists all images of the {full} split: take them off the list" in error
        for field, value in way_out.items():
            assert f"config.data.{field}={value}" in error
    listed.write_text("train/cat/2.png")
    config = folder_config(
        place, exclude=str(listed), dir=str(tmp_path / "kept"), **way_out
    )
    assert full == "train" or full not in data.load(config)


def test_images_of_a_prepared_set_are_left_out_by_number(tmp_path):
    listed = tmp_path / "listed.txt"
    listed.write_text("train/0\ntrain/5\ntest/1\n")
    whole = data.load(DataConfig("digits", validation=0))
    splits = data.load(DataConfig("digits", exclude=str(listed), validation=0))
    kept = np.delete(np.arange(len(whole.train)), [0, 5])
    np.testing.assert_array_equal(splits.train.images, whole.train.images[kept])
    assert len(splits.test) == len(whole.test) - 1
    assert splits.notes == (f"3 images left out, listed in {listed}",)
    folded = data.load(DataConfig("digits", exclude=str(listed), validation="1/2"))
    assert len(folded.train) + len(folded.validation) == len(kept)
    first = np.flatnonzero(whole.train.labels == 3)
    listed.write_text("\n".join(f"train/{row}" for row in first))
    with pytest.raises(UserError, match="lists all training images of class '3'"):
        data.load(DataConfig("digits", exclude=str(listed), validation=0))
    listed.write_text("test\n")
    with pytest.raises(UserError, match="lists all images of the test split"):
        data.load(DataConfig("digits", exclude=str(listed), validation=0))
    listed.write_text("train/99999\n")
    with pytest.raises(UserError, match="train/99999"):
        data.load(DataConfig("digits", exclude=str(listed), validation=0))


def test_a_folder_may_hold_no_images_out(place, tmp_path):
    write_folder(place, each=4, classes=2)
    options = {"path": str(place), "test_fraction": 0, "validation": 0}
    splits = data.load(DataConfig("folder", str(tmp_path / "kept"), **options))
    assert {name: len(split) for name, split in splits.items()} == {"train": 8}
