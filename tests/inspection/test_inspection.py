"""The inspection of data sets, as users run it, on folders made of real digits."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from sklearn.datasets import load_digits

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.inspection import scan
from hybrid_jax.inspection.near_duplicates import POSSIBLE, SURE
from hybrid_jax.main import main
from tests.data.files import digit, encoded, write
from tests.inspection.test_near_duplicates import moved

CONFIGS = Path(__file__).parents[2] / "configs"
LABELS = load_digits().target


def of_class(label):
    return np.flatnonzero(label == LABELS).tolist()


@pytest.fixture
def place(tmp_path):
    """Three classes as their user split them, 12 images to train on and 4 to test."""
    for label in range(3):
        for split, rows in (("train", slice(12)), ("test", slice(12, 16))):
            for row in of_class(label)[rows]:
                write(tmp_path / "cells" / split / str(label) / f"{row}.png", row)
    return tmp_path / "cells"


@pytest.fixture
def inspect(tmp_path, capsys):
    """Runs the command; gives its exit code, what it prints, and its report."""
    out = tmp_path / "out"

    def run(*args, config="folder"):
        where = [f"--config={CONFIGS / config}.py", f"--output={out}"]
        code = main(["hybrid-jax", "inspect", *where, *map(str, args)])
        said = capsys.readouterr()
        report = out / "report.json"
        content = report.read_text(encoding="utf-8") if report.exists() else "null"
        return code, said, json.loads(content)

    run.out = out
    return run


def found(report, what):
    """The texts of what one check found."""
    by_name = {finding["what"]: finding for finding in report["findings"]}
    return [item["text"] for item in by_name[what]["items"]]


LEAKED = "images that are in two splits"
SIMILAR = "images that look like one of another split"


def test_a_clean_folder(place, inspect):
    (place / "notes.txt").write_text("mine")
    code, said, report = inspect(f"--config.data.path={place}")
    assert (code, said.err) == (0, "")
    assert said.out.endswith("nothing was found that would spoil a result\n")
    assert report["findings"] == []
    assert report["spoiled"] is False
    counts = {"train": 12, "test": 4}
    assert report["classes"] == [{"name": name} | counts for name in "012"]
    assert report["summary"] == {
        "sizes": "24x24, all of them",
        "pixels": "48 gray",
        "formats": "48 PNG",
        "ignored files": "1 .txt",
        "decoded": "0.0 MB as 24x24x1, which stay on the device (data.loader=auto)",
    }
    assert {path.name for path in inspect.out.iterdir()} >= {
        "contact_sheet.png",
        "report.json",
    }
    assert not (inspect.out / "duplicates.png").exists()
    assert {row["sure"] for row in copies(inspect)} <= {POSSIBLE}


def test_a_leak_is_found_whatever_the_file_says_of_itself(place, inspect):
    row = of_class(1)[3]
    notes = PngInfo()
    notes.add_text("comment", "exported again")
    again = digit(row).convert("RGB")
    again.save(place / "test" / "1" / "again ü.png", pnginfo=notes, compress_level=0)
    code, said, report = inspect(f"--config.data.path={place}")
    assert code == 1
    assert found(report, LEAKED) == [
        f"test/1/again ü.png (test, 1) = train/1/{row}.png (train, 1)"
    ]
    assert found(report, LEAKED)[0] in said.out
    assert said.out.endswith(f"this would spoil results: {LEAKED} (1)\n")
    assert report["spoiled"] is True
    assert (inspect.out / "duplicates.png").exists()


def copies(inspect):
    """The rows of near_copies.csv."""
    path = inspect.out / "near_copies.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [*csv.DictReader(file)]


def test_a_changed_copy_is_a_leak(place, inspect):
    for label in range(3):
        for row in of_class(label)[:12]:
            write(place / "train" / str(label) / f"{row}.png", row, 32)
    row = of_class(2)[5]
    changed = moved(ImageOps.mirror(digit(row, 32)), right=3, down=0)
    changed.save(place / "test" / "2" / "copy.jpg", quality=75)
    code, said, report = inspect(
        f"--config.data.path={place}", "--config.data.image_size=32,32"
    )
    assert code == 1
    (text,) = found(report, SIMILAR)
    pair = f"test/2/copy.jpg (test, 2) ~ train/2/{row}.png (train, 2)"
    assert re.fullmatch(
        rf"{re.escape(pair)}: likeness 0\.9\d, mirrored, (8|9|10) % to the right", text
    )
    assert said.out.endswith(f"this would spoil results: {SIMILAR} (1)\n")
    best, *others = copies(inspect)
    assert text.endswith(best["change"])
    assert (best["path"], best["split"], best["label"]) == (
        f"train/2/{row}.png",
        "train",
        "2",
    )
    assert (best["other"], best["other_split"]) == ("test/2/copy.jpg", "test")
    assert best["sure"] == SURE
    ranks = [float(row["likeness"]) for row in (best, *others)]
    assert ranks == sorted(ranks, reverse=True)


def test_copies_within_a_split_spoil_if_their_labels_differ(place, inspect):
    first, other = of_class(0)[:2]
    write(place / "train" / "0" / "z.png", first)
    code, _, report = inspect(f"--config.data.path={place}")
    assert code == 0
    assert found(report, "copies within a split") == [
        f"train/0/z.png (train, 0) = train/0/{first}.png (train, 0)"
    ]
    write(place / "train" / "1" / "z.png", other)
    code, _, report = inspect(f"--config.data.path={place}")
    assert code == 1
    assert found(report, "copies with different labels") == [
        f"train/1/z.png (train, 1) = train/0/{other}.png (train, 0)"
    ]


@pytest.fixture
def damaged(place):
    """One damaged test image, and three of training."""
    whole = encoded(digit(5, 64), "JPEG")
    contents = {
        "train/0/truncated.jpg": whole[: len(whole) // 2],
        "train/1/empty.png": b"",
        "train/2/map.jpg": encoded(digit(7), "PPM"),
        "test/2/text.png": b"not an image",
    }
    for name, content in contents.items():
        (place / name).write_bytes(content)
    return contents


def test_all_unreadable_files_are_named_at_once(damaged, place, inspect):
    code, said, report = inspect(f"--config.data.path={place}")
    assert code == 1
    assert said.out.endswith("images that cannot be read (4)\n")
    texts = found(report, "images that cannot be read")
    named = {text.partition(" (")[0]: text.partition("): ")[2] for text in texts}
    assert {*named} == {*damaged}
    assert named["train/1/empty.png"] == "it is empty"
    assert "P5" in named["train/2/map.jpg"]
    assert all(text in said.out for text in texts)


def test_a_folder_of_which_nothing_can_be_read(place, inspect):
    for path in place.rglob("*.png"):
        path.write_bytes(b"")
    code, _, report = inspect(f"--config.data.path={place}")
    assert code == 1
    assert len(found(report, "images that cannot be read")) == 48
    assert report["summary"]["sizes"] == "none"


def test_what_training_skips_is_a_notice(damaged, place, inspect):
    skip = "--config.data.on_error=skip"
    code, _, report = inspect(f"--config.data.path={place}", skip)
    assert code == 1
    assert len(found(report, "images that cannot be read")) == 1
    (place / "test" / "2" / "text.png").unlink()
    code, _, report = inspect(f"--config.data.path={place}", skip)
    assert code == 0
    skipped = "images that cannot be read and are skipped"
    assert len(found(report, skipped)) == 3


def test_a_slip_in_a_folders_name(place, inspect):
    (place / "train" / "0").rename(place / "train" / "Cats")
    (place / "test" / "0").rename(place / "test" / "cats")
    code, _, report = inspect(f"--config.data.path={place}")
    assert code == 1
    assert found(report, "classes without training images") == [
        "'cats' has 4 test images, did you mean 'Cats'?"
    ]
    assert found(report, "classes without test images") == [
        "'Cats' has 12 training images, did you mean 'cats'?"
    ]


def test_the_only_image_of_a_class_cannot_be_tested_on(tmp_path, inspect):
    cells = tmp_path / "cells"
    for row in of_class(3)[:30]:
        write(cells / "many" / f"{row}.png", row)
    write(cells / "lone" / "4.png", 4)
    code, _, report = inspect(f"--config.data.path={cells}")
    assert code == 1
    assert found(report, "classes without test images") == [
        "'lone' has 1 training image"
    ]
    assert found(report, "classes of fewer than 10 training images") == ["'lone' has 1"]
    assert found(report, "uneven classes") == [
        "'many' has 24 training images, 'lone' has 1"
    ]
    (refusal,) = found(report, "splits that cannot be made")
    assert "class 'lone' has 1 training image: two are needed" in refusal


def test_folds_that_training_would_refuse(place, inspect):
    path = f"--config.data.path={place}"
    what = "splits that cannot be made"
    _, printed, _ = inspect(path, "--config.data.validation=1/12")
    assert what not in printed.out
    _, printed, report = inspect(path, "--config.data.validation=1/13")
    (refusal,) = found(report, what)
    assert refusal.startswith("config.data.validation=1/13: class '0' has 12 training")
    assert refusal in " ".join(printed.out.split())


def test_a_list_of_exclusions_numbers_unreadable_images_too(tmp_path, digits):
    """Those of a prepared set, which has no files to skip."""

    class Encoded(list):
        def read(self, rows):
            return [self[row] for row in rows]

        def name(self, row):
            return f"image {row}"

    labels = np.array([0, 1] * 4, np.int32)
    records = Encoded(encoded(digit(row), "PNG") for row in range(8))
    records[2] = b"broken"
    images = scan.FoundImages("x", ("a", "b"), {"train": records}, {"train": labels})
    listed = tmp_path / "listed.txt"
    for number, used, unreadable in (
        (5, [0, 1, 3, 4, 6, 7], ["train/2"]),
        (2, [0, 1, 3, 4, 5, 6, 7], []),
    ):
        listed.write_text(f"train/{number}")
        config = DataConfig("digits", exclude=str(listed))
        scanned = scan.scan(images, config)
        assert scanned.rows.tolist() == used
        assert [image.name for image in scanned.unreadable] == unreadable


def test_ignored_files_are_those_that_training_looks_at(place, inspect):
    for hidden in (".git", "@eaDir"):
        write(place / hidden / "1.png", 1)
        (place / hidden / "notes.txt").write_text("of a program")
    elsewhere = (place / "train" / "2").rename(place.parent / "2")
    (elsewhere / "notes.txt").write_text("of a person")
    (place / "train" / "2").symlink_to(elsewhere)
    _, printed, _ = inspect(f"--config.data.path={place}")
    assert re.search(r"ignored files +1 \.txt *\n", printed.out)


def test_what_is_worth_knowing_of_files(place, inspect):
    train = place / "train" / "0"
    (train / "jpeg.png").write_bytes(encoded(digit(101), "JPEG", quality=95))
    for name in ("black.png", "white.png"):
        Image.new("L", (24, 24), 255 * (name == "white.png")).save(train / name)
    write(train / "tiny.png", 103, size=10)
    code, _, report = inspect(f"--config.data.path={place}")
    assert code == 0
    (misnamed,) = found(report, "names that say another format")
    assert misnamed == "train/0/jpeg.png (train, 0): it is JPEG"
    assert len(found(report, "images of one level")) == 2
    (sizes,) = found(report, "images of several sizes and no config.data.image_size")
    assert sizes == "2 sizes from 10x10 to 24x24"
    assert "choose one" in report["summary"]["decoded"]
    size = "--config.data.image_size=32,32"
    code, _, report = inspect(f"--config.data.path={place}", size)
    assert found(
        report, "images less than half as large as config.data.image_size"
    ) == ["train/0/tiny.png (train, 0): 10x10 for 32x32"]


def test_a_few_images_that_are_brighter_than_all_others_are_named(place, inspect):
    for path in [*place.rglob("*.png")]:
        levels = np.asarray(Image.open(path)).astype(np.uint16) * 15
        levels[0, :2] = [65535, 4095] if path.name == "0.png" else 4095
        levels *= 1 + 15 * (path.name == "1.png")
        Image.fromarray(levels).save(path)
    _, _, report = inspect(f"--config.data.path={place}")
    said = report["summary"]["levels"]
    assert said.startswith("1 of 48 images of 16 bits has levels above 4095")
    assert said.endswith("train/1/1.png")


def test_a_table_that_names_an_image_twice(tmp_path, inspect):
    rows = [("path", "label", "split")]
    for label, name in enumerate(["Größe 1", "細胞"]):
        for place, row in enumerate(of_class(label)[:14]):
            file = f"images/{row} b.png"
            write(tmp_path / file, row)
            rows.append((file, name, "train" if place < 11 else "test"))
    rows.append((rows[1][0], "Größe 1", "test"))
    table = tmp_path / "cells.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    code, said, report = inspect(f"--config.data.path={table}")
    assert code == 1
    name = f"images/{of_class(0)[0]} b.png"
    assert found(report, LEAKED) == [
        f"{name} (test, Größe 1) = {name} (train, Größe 1)"
    ]
    assert found(report, "images that a table names twice") == [
        f"{name}: lines 2 and 30"
    ]
    assert name not in [row["path"] for row in copies(inspect)]
    assert "細胞" in said.out
    assert report["name"] == "cells"


def test_the_digits_are_clean_and_their_sheet_shows_them(inspect, digits):
    code, _, report = inspect(config="digits")
    assert code == 0
    assert [row["train"] + row["test"] for row in report["classes"]] == np.bincount(
        LABELS
    ).tolist()
    sheet = np.asarray(Image.open(inspect.out / "contact_sheet.png"))
    left, top, row, factor = 16 + 170, 2 * 16 + 14, 104 + 4, 12
    for split, start, shown in ((digits.train, 0, 8), (digits.test, 8 * row + 8, 3)):
        for label in range(10):
            x, y = left + start + 4, top + label * row + 4
            rows = np.flatnonzero(split.labels == label)
            for place in (0, shown - 1):
                expected = split.images[rows[0 if place == 0 else -1], ..., 0]
                corner = x + place * row
                square = sheet[y : y + 8 * factor, corner : corner + 8 * factor]
                enlarged = expected.repeat(factor, 0).repeat(factor, 1)[..., None]
                np.testing.assert_array_equal(square, enlarged.repeat(3, 2))
    assert sheet.shape[:2] == (top + 10 * row + 16, 2 * 16 + 170 + 11 * row + 16)


def test_all_splits_of_the_user_are_looked_at(place, inspect):
    write(place / "val" / "0" / "again.png", of_class(0)[0])  # trained on
    write(place / "val" / "1" / "twice.png", of_class(1)[12])  # tested on
    code, _, report = inspect(f"--config.data.path={place}")
    assert code == 1
    assert report["classes"] == [
        {"name": name, "train": 12, "validation": count, "test": 4}
        for name, count in zip("012", (1, 1, 0), strict=True)
    ]
    assert found(report, LEAKED) == [
        f"val/0/again.png (validation, 0) = train/0/{of_class(0)[0]}.png (train, 0)",
        f"test/1/{of_class(1)[12]}.png (test, 1) = val/1/twice.png (validation, 1)",
    ]
    assert found(report, "classes without validation images") == [
        "'2' has 12 training images and 4 test images"
    ]
    assert {row["path"] for row in copies(inspect) if row["sure"] == "same pixels"} == {
        f"train/0/{of_class(0)[0]}.png",
        "val/1/twice.png",
    }


def test_a_share_for_validation_stays_with_the_training_images(place, inspect):
    for share in ("1/3", "0"):
        args = f"--config.data.path={place}", f"--config.data.validation={share}"
        counts = [{**row} for row in inspect(*args)[2]["classes"]]
        assert counts == [{"name": name, "train": 12, "test": 4} for name in "012"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--config.data.path=nowhere"], "'nowhere' does not exist"),
        ([], "config.data.path is missing"),
        (["--config.data.pth=x"], "did you mean config.data.path?"),
        (["--workdir=x"], "workdir"),
        (["--config.seed=1"], "has no effect on this command, which uses config.data "),
        (["stray"], "stray argument 'stray'"),
    ],
    ids=str,
)
def test_mistakes(args, said, inspect):
    code, out, _ = inspect(*args)
    assert code == 2
    assert out.err.startswith("hybrid-jax: ")
    assert out.err.count("\n") == 1
    assert said in out.err
    assert not inspect.out.exists()


def test_an_output_among_the_images_is_refused(place, inspect):
    before = {*place.rglob("*")}
    code, out, _ = inspect(
        f"--config.data.path={place}", f"--output={place}/train/look"
    )
    assert code == 2
    assert "lies among the images" in out.err
    assert {*place.rglob("*")} == before


def test_pictures_of_an_earlier_look_are_removed(place, inspect):
    copy = write(place / "test" / "0" / "copy.png", of_class(0)[0])
    inspect(f"--config.data.path={place}")
    assert (inspect.out / "duplicates.png").exists()
    copy.unlink()
    inspect(f"--config.data.path={place}")
    assert not (inspect.out / "duplicates.png").exists()


def test_the_command_itself(place, tmp_path):
    run = [sys.executable, "-m", "hybrid_jax.main", "inspect"]
    args = [f"--config={CONFIGS / 'folder.py'}", f"--config.data.path={place}"]
    env = os.environ | {"PYTHONPATH": str(CONFIGS.parent)}
    out = subprocess.run(
        [*run, *args], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert (out.returncode, out.stderr) == (0, "")
    assert re.search("wrote .*report.json, contact_sheet.png into inspect-", out.stdout)
    assert (tmp_path / "inspect-cells" / "contact_sheet.png").exists()
