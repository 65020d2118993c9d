"""The inspection of folders in which a class or an image would be lost in silence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from hybrid_jax import data
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.main import main
from tests.data.files import write

CONFIG = Path(__file__).parents[2] / "configs" / "folder.py"
LABELS = load_digits().target


@pytest.fixture
def place(tmp_path):
    """Two classes of 12 digits each, not split."""
    for label in range(2):
        for row in np.flatnonzero(label == LABELS)[:12]:
            write(tmp_path / "cells" / str(label) / f"{row}.png", row)
    return tmp_path / "cells"


@pytest.fixture
def inspect(place, tmp_path, capsys):
    """Runs the command; gives its exit code, what it prints, and its findings."""

    def run(*args, path=place):
        paths = (f"--config.data.path={path}", f"--output={tmp_path / 'out'}")
        code = main(["hybrid-jax", "inspect", f"--config={CONFIG}", *paths, *args])
        said = capsys.readouterr()
        assert said.err == ""
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        found = {finding["what"]: finding["items"] for finding in report["findings"]}
        return code, said.out, found

    return run


def make_dead(folder):
    folder.mkdir()
    for row in range(3):
        (folder / f"{row}.png").symlink_to("/nowhere")


def make_foreign(folder):
    folder.mkdir()
    for row in range(3):
        (folder / f"{row}.heic").write_bytes(b"\0\0\0 ftypheic")


def make_other(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("none yet")


EMPTY = "class folders without images"
UNREADABLE = "images that cannot be read"


@pytest.mark.parametrize(
    ("make", "what", "count", "said"),
    [
        (Path.mkdir, EMPTY, 1, "class folder 'bird' holds no image"),
        (make_other, EMPTY, 1, "holds no image, but 1 .txt"),
        (make_dead, UNREADABLE, 3, "(test, bird): it is a link to a missing file"),
        (make_foreign, UNREADABLE, 3, "bird): it is no JPEG, PNG"),
    ],
    ids=["empty", "other files", "dead links", "formats"],
)
def test_a_class_that_would_vanish_fails(make, what, count, said, place, inspect):
    make(place / "bird")
    code, printed, findings = inspect()
    assert code == 1
    assert len(findings[what]) == count
    texts = [item["text"] for item in findings[what]]
    assert any(said in text for text in texts)
    assert texts[0] in printed


def test_a_class_of_which_a_half_is_of_another_format_fails(place, inspect):
    halves = sorted((place / "1").iterdir())[::2]
    for path in halves:
        path.with_suffix(".heic").write_bytes(b"\0\0\0 ftypheic")
        path.unlink()
    code, _, findings = inspect()
    assert code == 1
    assert len(findings[UNREADABLE]) == len(halves)
    code, _, findings = inspect("--config.data.on_error=skip")
    assert code == 0
    assert len(findings["images that cannot be read and are skipped"]) == len(halves)


@pytest.mark.parametrize("names", [("Cat", "cat"), ("dog", "dog ")])
def test_two_names_of_one_class_are_a_slip(names, place, inspect):
    for name, label in zip(names, (0, 1), strict=True):
        shutil.move(place / str(label), place / name)
    code, printed, findings = inspect()
    assert code == 1
    (item,) = findings["class names that differ in case or spaces alone"]
    assert item["text"] == f"{names[0]!r} and {names[1]!r}"
    assert item["text"] in printed


def test_copies_that_are_found_can_be_left_out(place, inspect, tmp_path, monkeypatch):
    row = np.flatnonzero(LABELS == 0)[12]
    write(place / "0" / f"{row}.png", row)
    first = min((place / "0").iterdir())
    shutil.copy(first, place / "0" / "again.png")
    code, _, _ = inspect()
    found = tmp_path / "out" / "near_copies.csv"
    listed = tmp_path / "copies.csv"
    shutil.copy(found, listed)
    before = data.load(DataConfig("folder", str(tmp_path / "kept"), path=str(place)))
    options = {"path": str(place), "exclude": str(listed)}
    after = data.load(DataConfig("folder", str(tmp_path / "kept"), **options))
    size = [sum(map(len, splits.values())) for splits in (before, after)]
    assert size == [26, 25]
    code, printed, findings = inspect(f"--config.data.exclude={listed}")
    assert (code, findings) == (0, {})
    assert "1 image left out, listed in" in printed
    assert "ignored files" not in printed
    monkeypatch.chdir(place)
    code, printed, _ = inspect(path=".")
    assert "ignored files" not in printed


def test_groups_in_two_splits_of_a_table_are_found(place, inspect):
    rows = [
        (f"{label}/{path.name}", label, split, path.stem)
        for label in "01"
        for number, path in enumerate(sorted((place / label).iterdir()))
        for split in ["train" if number < 8 else "test"]
    ]
    rows[-1] = (*rows[-1][:3], rows[0][3])
    table = place / "t.csv"
    table.write_text(
        "\n".join(map(",".join, [("path", "label", "set", "patient"), *rows]))
    )
    code, _, findings = inspect(path=table)
    assert code == 1
    assert [item["text"] for item in findings["groups in two splits"]] == [
        f"{rows[0][3]!r} in train and test"
    ]
