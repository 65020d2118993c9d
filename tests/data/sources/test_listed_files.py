"""Image files that a caller lists, as `Classifier.fit` takes them."""

import numpy as np
import pytest
from PIL import Image

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.sources.listed_files import ListedFiles
from hybrid_jax.errors import UserError
from tests.data.files import scans, write

LABELS = scans().target[:24] % 2
ALL = DataConfig("arrays", validation=0, test=False)


@pytest.fixture
def paths(tmp_path):
    """Scans of the first digits."""
    return [write(tmp_path / "cells" / f"{row}.png", row) for row in range(24)]


def names(splits):
    """The names of the files that are used, by number."""
    used = (name for split in splits.values() for name in split.names)
    return sorted(int(name.rpartition("/")[2][:-4]) for name in used)


def said(call):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("alias", [False, True])
def test_a_file_that_is_listed_twice_is_in_one_split(paths, alias):
    again = paths[3]
    if alias:
        again = paths[3].with_name("link.png")
        again.symlink_to(paths[3])
    listed = ListedFiles([*paths, again], [*LABELS, LABELS[3]], "X")
    drawn = DataConfig("arrays", validation=0.3)
    assert said(lambda: listed.load(drawn)) == (
        f"X: {again}{f' (also called {paths[3]})' if alias else ''} is listed twice, "
        "as '1', of which a part is drawn for another split: list each image once"
    )
    # It does no harm where all are trained on, unless it is in two classes.
    assert "1 row names an image that another row names too" in listed.load(ALL).notes
    listed = ListedFiles([*paths, again], [*LABELS, 1 - LABELS[3]], "X")
    assert "is listed twice, as '1' and as '0'" in said(lambda: listed.load(ALL))


def test_damaged_files_stop_or_are_skipped_and_named(paths):
    paths[5].write_bytes(b"no image")
    paths[6].unlink()
    listed = ListedFiles(paths, LABELS, "X")
    for call in (lambda: listed.load(ALL), lambda: listed.sizes(ALL)):
        assert "2 of the 24 X images cannot be read" in said(call)
        assert "skip them (config.data.on_error=skip)" in said(call)
    skip = DataConfig("arrays", validation=0, test=False, on_error="skip")
    splits = listed.load(skip)
    assert names(splits) == [row for row in range(24) if row not in (5, 6)]
    np.testing.assert_array_equal(
        splits.train.labels, np.delete(LABELS, [5, 6]).astype(np.int32)
    )
    assert listed.sizes(skip) == [(24, 24)] * 22
    assert listed.count_trained(skip) == 22
    (note,) = splits.notes
    assert note.startswith("2 images skipped, which cannot be read: ")
    assert str(paths[5]) in note and str(paths[6]) in note
    for path in paths:
        path.write_bytes(b"no image")
    assert said(lambda: ListedFiles(paths, LABELS, "X").load(skip)) == (
        "X has no image that can be read"
    )


def test_a_class_that_is_skipped_whole_is_refused(paths):
    labels = np.where(np.arange(24) == 7, "rare", "common")
    paths[7].write_bytes(b"no image")
    listed = ListedFiles(paths, labels, "X")
    skip = DataConfig("arrays", on_error="skip")
    assert "all images of class 'rare' are excluded or" in said(
        lambda: listed.load(skip)
    )


@pytest.mark.parametrize("form", ["as listed", "absolute", "by number", "folder"])
def test_files_of_a_list_are_excluded_as_they_are_listed(
    paths, form, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    paths[2].write_bytes(b"no image")  # it is left out, so it may be damaged
    others = [write(tmp_path / "others" / f"{row}.png", row, 16) for row in (24, 25)]
    given = [path.relative_to(tmp_path) for path in (*paths, *others)]
    lines = {
        "as listed": ["./cells/2.png", "others/24.png", "others/25.png"],
        "absolute": [str(path) for path in (paths[2], *others)],
        "by number": ["train/2", "train/24", "train/25"],
        "folder": ["cells/2.png", "others"],
    }
    (tmp_path / "out.txt").write_text("\n".join(lines[form]))
    config = DataConfig("arrays", exclude="out.txt", validation=0, test=False)
    listed = ListedFiles(given, [*LABELS, 0, 1], "X")
    splits = listed.load(config)
    assert names(splits) == [row for row in range(24) if row != 2]
    assert splits.notes == ("3 images left out, listed in out.txt",)
    assert {*listed.sizes(config)} == {(24, 24)}
    assert listed.count_trained(config) == 23
    (tmp_path / "out.txt").write_text("nowhere.png")
    assert said(lambda: listed.load(config)).endswith(
        "match no image (1 of 1): nowhere.png; give paths as X has them, or "
        "train/NUMBER"
    )


def test_a_group_that_paths_name_is_in_one_split(tmp_path):
    y = scans().target[:32] % 2
    paths = [write(tmp_path / f"patient{row % 8}_{row}.png", row) for row in range(32)]
    data_config = DataConfig("arrays", group=r"(patient\d+)", validation=0.25)
    splits = ListedFiles(paths, y, "X").load(data_config)
    train, validation = ({*splits[name].groups} for name in ("train", "validation"))
    assert train and validation and not train & validation


def test_paths_whose_levels_are_brighter_than_most_are_named(tmp_path):
    paths = [tmp_path / f"{row}.png" for row in range(20)]
    for row, path in enumerate(paths):
        levels = np.full((16, 16), 65535 if row == 7 else 4095, np.uint16)
        Image.fromarray(levels).save(path)
    files = ListedFiles(paths, [0, 1] * 10, "X")
    (note,) = files.load(DataConfig("arrays")).notes[:1]
    assert note.startswith("1 of 20 images of 16 bits has levels above 4095")
    assert note.endswith("7.png")
