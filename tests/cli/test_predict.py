"""The command `predict`, without a run: what it reads, and what it says."""

import io
import os

import pytest

from hybrid_jax.main import main
from hybrid_jax.prediction import predict


@pytest.fixture
def asked(monkeypatch):
    """Has the command note which images it is asked for instead of predicting."""
    images = []
    monkeypatch.setattr(predict, "predict", lambda images, **_: asked_for(images))

    def asked_for(given):
        images.extend(given)
        return 0

    return images


def test_names_on_standard_input_end_at_line_feeds_alone(asked, tmp_path, monkeypatch):
    names = [tmp_path / f"a{odd}b.png" for odd in ("\f", "\x85", "\u2028", " ", "\r")]
    for path in names:
        path.touch()
    given = b"\n".join(os.fsencode(path) for path in names[:3])
    given += b"\r\n\n" + b"\n".join(os.fsencode(path) for path in names[3:])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert main(["hybrid-jax", "predict", "--workdir=w", "-"]) == 0
    assert asked == [str(path) for path in names]


def test_names_on_standard_input_may_end_with_zero_bytes(asked, tmp_path, monkeypatch):
    for name in ("a\nb.png", "[c].png"):
        (tmp_path / name).touch()
    names = [f"{tmp_path}/a\nb.png", f"{tmp_path}/[c].png"]  # as of `find -print0`
    given = "".join(f"{name}\0" for name in names).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert main(["hybrid-jax", "predict", "--workdir=w", "-"]) == 0
    assert asked == names


def test_files_that_are_no_images_are_counted_once(asked, tmp_path, capsys):
    for name in ("1.png", "2", "3.jpg_large", ".hidden"):
        (tmp_path / name).touch()
    command = ["hybrid-jax", "predict", "--workdir=w", str(tmp_path), str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out == ""
    others, repeated = said.err.splitlines()
    assert others == "2 other files left out: 1 without a suffix, 1 .jpg_large"
    assert repeated.startswith("1 image named more than once, with one row each: ")


def test_a_table_in_the_place_of_images_gets_a_way_out(asked, tmp_path, capsys):
    table = tmp_path / "objects.CSV"
    table.write_text("objid,path\n1,a.png\n")
    assert main(["hybrid-jax", "predict", "--workdir=w", str(table)]) == 2
    assert f"{table} is a table, and no image: give -, and" in capsys.readouterr().err
    assert asked == []
