"""The inspection never replaces a list of copies that is the user's own work."""

import shutil
from pathlib import Path

import pytest

from hybrid_jax.inspection import report
from hybrid_jax.main import main
from tests.data.files import write_folder

CONFIG = Path(__file__).parents[2] / "configs" / "folder.py"


@pytest.fixture
def inspect(tmp_path, capsys):
    """Runs the command on a folder with a copy; gives its exit code and its error."""
    place = write_folder(tmp_path / "cells")
    first = min((place / "digit 0").iterdir())
    shutil.copy(first, place / "digit 0" / "copy.png")

    def run(*args):
        paths = (f"--config.data.path={place}", f"--output={tmp_path / 'out'}")
        code = main(["hybrid-jax", "inspect", f"--config={CONFIG}", *paths, *args])
        return code, capsys.readouterr().err

    run()
    return run


@pytest.fixture
def table(tmp_path, inspect):
    """The list that the first inspection wrote."""
    return tmp_path / "out" / "near_copies.csv"


def test_a_list_that_is_in_use_is_not_replaced(inspect, table):
    before = table.read_bytes()
    code, error = inspect(f"--config.data.exclude={table}")
    assert (code, table.read_bytes()) == (2, before)
    assert error == (
        f"hybrid-jax: {table} is the list in config.data.exclude, and would be "
        "replaced: give another --output, or move it elsewhere\n"
    )
    moved = table.rename(table.parents[1] / "list.csv")
    code, error = inspect(f"--config.data.exclude={moved}")
    assert error == ""
    assert moved.read_bytes() == before


def test_a_list_that_was_edited_is_not_replaced(inspect, table):
    code, error = inspect()  # as it was written
    assert error == ""
    edited = table.read_text() + "0.5,digit 0/mine.png\n"
    table.write_text(edited)
    code, error = inspect()
    assert (code, table.read_text()) == (2, edited)
    assert "is not as an inspection wrote it, and would be replaced" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["duplicates.png", "contact_sheet.png", "report.json"])
def test_files_that_no_inspection_wrote_are_not_replaced(name, inspect, table):
    for path in table.parent.iterdir():
        path.unlink()
    mine = table.parent / name
    mine.write_text("{}")
    code, error = inspect()
    assert (code, mine.read_text()) == (2, "{}")
    assert f"holds {name}, and no report.json of an inspection: give" in error
    assert [*table.parent.iterdir()] == [mine]


@pytest.mark.parametrize("written", ["report.json", "near_copies.csv"])
def test_an_interrupted_inspection_can_be_repeated(
    written, inspect, table, monkeypatch
):
    whole = table.read_bytes()
    write_whole = report.write_whole

    def interrupted(path, content):
        if path.name == written:
            raise OSError(28, "No space left on device", str(path))
        write_whole(path, content)

    monkeypatch.setattr(report, "write_whole", interrupted)
    code, error = inspect()
    assert (code, "No space left" in error) == (2, True)
    monkeypatch.undo()
    code, error = inspect()
    assert (error, table.read_bytes()) == ("", whole)
