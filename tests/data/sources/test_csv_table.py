"""Tables of images, as spreadsheets and people write them."""

import pytest

from hybrid_jax.data.sources import csv_reader
from hybrid_jax.data.sources.file_list import list_images
from hybrid_jax.errors import UserError
from tests.data.files import folder_config, write


@pytest.fixture
def table(tmp_path):
    for row in range(6):
        write(tmp_path / f"{row}.png", row)
    return tmp_path / "table.csv"


def said(table, text):
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as error:
        list_images(folder_config(table, 0.5, 0))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("path,label\n0.png,a\n1.png,a,\n", 3, "3 cells for 2 columns"),
        ("path,label\n\n0.png,a\n\n\na, b.png,a\n", 6, "3 cells for 2 columns"),
        ('path,label,note\n0.png,a,"two\nlines"\n1.png,,\n', 4, "a path, a label"),
        ("path,label\r\n0.png,a\r\n\r\n1.png\r\n", 4, "a path, a label"),
        ('path,label\n0.png,"a\n1.png,a\n', 3, "quotation mark"),
        ("path,label,split\n0.png,a,train\n1.png,a,test\n2.png,a,x\n", 4, "a split of"),
    ],
    ids=["comma", "unquoted", "two lines", "windows", "quote", "split"],
)
def test_mistakes_are_told_by_the_line_of_an_editor(text, line, why, table):
    error = said(table, text)
    assert f"{table}, line {line}: " in error
    assert why in error


@pytest.mark.parametrize(
    "text",
    [
        'path, label\n"0.png", "a"\n1.png ,a\n 2.png,b\n3.png,b\n',
        "label;path\na;0.png\na;1.png\nb;2.png\nb;3.png\n",
        "\ufeffpath,label,note\n0.png,a\n1.png,a,x\n\n2.png,b,\n3.png,b,\n",
    ],
    ids=["spaces", "semicolons", "short rows"],
)
def test_tables_as_people_write_them(text, table):
    table.write_text(text)
    found = list_images(folder_config(table, 0.5, 0))
    assert found.classes == ("a", "b")
    paths = sorted(p.name for part in found.splits.values() for p in part.paths)
    assert paths == ["0.png", "1.png", "2.png", "3.png"]


def test_a_validation_split_that_is_not_wanted_is_counted(table):
    splits = ("train", "train", "Val", "valid", "test", "test")
    rows = [f"{row}.png,{row % 2},{split}" for row, split in enumerate(splits)]
    table.write_text("\n".join(["path,label,split", *rows]))
    assert list_images(folder_config(table, 0.5, 0)).notes == ()
    assert list_images(folder_config(table, 0.5, 0), {"train", "test"}).notes == (
        "2 images of the validation split left out",
    )


def test_names_that_are_not_utf8_are_found(table):
    write(table.parent / "caf\udce9.png", 7)
    text = "path,label\n0.png,a\n1.png,a\n2.png,b\ncaf\udce9.png,b\n"
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert list_images(folder_config(table, 0.5, 0)).classes == ("a", "b")
    assert r"caf\xe8.png (line 2)" in said(table, "path,label\ncaf\udce8.png,b\n")


@pytest.mark.parametrize("name", ["cells.zip", "cells.txt"])
def test_a_file_that_is_no_table_is_told(name, tmp_path):
    (tmp_path / name).write_text("path,label\n")
    with pytest.raises(UserError, match="neither a folder nor a table"):
        list_images(folder_config(str(tmp_path / name), 0.5, 0))


def test_columns_are_found_by_their_common_names(table):
    table.write_text("ID,Image,Target\n7,0.png,x\n")
    (row,) = csv_reader.read(table, ("path", "label")).rows
    assert row == (2, {"path": "0.png", "label": "x", "split": "", "group": ""})
