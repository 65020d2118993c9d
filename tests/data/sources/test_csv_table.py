"""Tables of images, as spreadsheets and people write them."""

import pytest

from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.data.sources import csv_reader
from hybrid_jax.data.sources.file_list import list_images
from hybrid_jax.data.sources.new_images import load_labeled
from hybrid_jax.errors import UserError
from hybrid_jax.prediction.rows import Asked, CsvRows
from tests.data.files import folder_config, write

FORM = PixelFormat((24, 24), 1)


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
        ("sep=;\npath;label\n0.png;a\n1.png;\n", 4, "a path, a label"),
        ("path,label\n0.png,a\n1.png,NaN\n", 3, "a path, a label"),
        ("path,label,patient\n0.png,a,1\n1.png,a,nan\n", 3, "it has no patient"),
        ("path,label\n0.png,K\udce4fer\n", 2, r"label K\xe4fer is not in UTF-8: save"),
        ("path,label,split\n0.png,a,train\n1.png,a,test\n2.png,a,x\n", 4, "a split of"),
    ],
    ids=[
        *("comma", "unquoted", "two lines", "windows", "quote"),
        *("Excel", "NaN", "group", "Latin-1", "split"),
    ],
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
        "path\tlabel\n0.png\ta\n1.png\ta\n2.png\tb\n3.png\tb\n",
        "path;label;size, µm\n0.png;a;1,5\n1.png;a;2\n2.png;b;3\n3.png;b;4\n",
        "sep=;\r\npath;label\r\n0.png;a\r\n1.png;a\r\n2.png;b\r\n3.png;b\r\n",
        "\ufeffpath,label,note\n0.png,a\n1.png,a,x\n\n2.png,b,\n3.png,b,\n",
    ],
    ids=["spaces", "semicolons", "tabs", "a comma", "Excel", "short rows"],
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
    error = said(table, "path,label\ncaf\udce8.png,b\n")
    assert (
        r"caf\xe8.png (line 2); if names look wrong, save the table in UTF-8" in error
    )


@pytest.mark.parametrize(
    ("header", "separator", "columns"),
    [
        ("path\tkind", "tabs", "'path', 'kind'"),
        ("path;kind;size, µm", "semicolons", "'path', 'kind', 'size, µm'"),
        ("path kind", "commas", "'path kind'"),
    ],
)
def test_the_separator_is_told_where_a_column_is_missing(
    header, separator, columns, table
):
    error = said(table, f"{header}\n")
    assert f"read as separated by {separator}, has the columns {columns}, and" in error


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("cells.zip", ": unpack it, and give the folder"),
        ("cells.NPZ", ": read the arrays in Python, and train with hybrid_jax.fit or "),
        ("cells.h5", "for that of Galaxy10, see --config=galaxy10"),
        ("cells.txt", ": save it as .csv, with the columns path and label"),
        ("cells", ".csv or .tsv$"),
    ],
)
def test_a_file_that_is_no_table_is_told(name, way_out, tmp_path):
    (tmp_path / name).write_text("path,label\n")
    with pytest.raises(UserError, match=f"neither a folder nor a table .*{way_out}"):
        list_images(folder_config(str(tmp_path / name), 0.5, 0))


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        (r"red\0.png", "(line 2); write / in place of \\"),
        ("red/0", "(line 2); add the suffix, such as .png"),
        ("red/1.png", "red/1.png (line 2)"),
    ],
)
def test_paths_that_are_written_otherwise_get_a_way_out(name, way_out, table):
    write(table.parent / "red" / "0.png", 0)
    assert said(table, f"path,label\n{name},x\n").endswith(way_out)


def test_columns_are_found_by_their_common_names(table):
    table.write_text("ID,Image,Target\n7,0.png,x\n")
    (row,) = csv_reader.read(table, ("path", "label")).rows
    assert row == (2, {"path": "0.png", "label": "x", "split": "", "group": ""})


@pytest.mark.parametrize(
    "header",
    ["File Name;CLASS;PatientID", "image-path;label;Patient ID", "path;label;slide-id"],
)
def test_columns_are_found_however_their_names_are_parted(header, table):
    table.write_text(f"{header}\n0.png;x;p0\n")
    (row,) = csv_reader.read(table, ("path", "label")).rows
    assert row.cells == {"path": "0.png", "label": "x", "split": "", "group": "p0"}


def test_columns_that_only_look_like_groups_are_named(table):
    rows = ["0.png,a,1,2", "1.png,a,2,3", "2.png,b,3,4", "3.png,b,4,5"]

    def notes(header):
        table.write_text("\n".join([header, *rows]))
        found = list_images(folder_config(table, 0.5, 0)).notes
        assert load_labeled(str(table), FORM, ("a", "b")).notes[:1] == found[:1]
        return found

    assert notes("path,label,Patient name,age") == (
        "columns that give no groups: 'Patient name'; call one 'group' to use it",
    )
    assert notes("path,label,patient,Slide")[0] == (
        "columns that give no groups: 'Slide'; they are those of 'patient'"
    )
    assert notes("path,label,stain,age") == ()
    assert notes("path,label,field_id,website") == ()  # each image has its own
    rows[1] = "1.png,a,1,3"
    for name in ("field_id", "fieldOfView"):
        assert notes(f"path,label,{name},website") == (
            f"columns that give no groups: {name!r}; call one 'group' to use it",
        )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["path,label,Dataset", "0.png,a,train", "1.png,b,Test", "2.png,b,"],
            "the column 'Dataset' names splits (test, train), but is not called split",
        ),
        (
            ["path,label,split,set", "0.png,a,train,train", "1.png,b,test,train"],
            "line 3: the columns 'split' and 'set' name different splits: remove one",
        ),
        (
            ["path,label,label", "0.png,a,x", "1.png,b,y"],
            "has 2 columns called 'label': rename or remove all but one",
        ),
    ],
    ids=["other name", "two splits", "one name twice"],
)
def test_columns_that_contradict_what_is_used_are_refused(lines, message, table):
    assert message in said(table, "\n".join(lines))
    with pytest.raises(UserError) as error:
        load_labeled(str(table), FORM, ("a", "b"))
    assert message in str(error.value)


def test_rows_inside_a_pair_of_quotation_marks_are_not_lost(table):
    """A mark that is open pairs with the next one, some rows below."""
    comments = ['"blurred', "sharp", 'diameter 5"', "sharp"]
    rows = [f"{n}.png,{'ab'[n % 2]},{comment}" for n, comment in enumerate(comments)]
    table.write_text("\n".join(["path,label,comment", *rows]))
    with pytest.raises(UserError, match="lines 2 to 4: one pair of quotation marks"):
        csv_reader.read(table, ("path", "label"))
    table.write_text('path\n"0.png\n1.png\n2.png"\n')
    with pytest.raises(UserError, match="lines 2 to 4: one pair of quotation marks"):
        csv_reader.read(table, ("path",))
    table.write_text('path,comment,label\n0.png,"blurred,a\n1.png,5",b\n')
    with pytest.raises(UserError, match="lines 2 to 3: one pair of quotation marks"):
        csv_reader.read(table, ("path", "label"))


def test_a_comment_may_have_several_lines(table):
    comment = '"blurred,\nat the edge, left, dark\r\n; copy of 7.png"'
    table.write_text(
        f'path,label,comment\n0.png,a,{comment}\n"1.png\n",b,\n2.png,b,\n', newline=""
    )
    rows = csv_reader.read(table, ("path", "label")).rows
    assert [row.line for row in rows] == [2, 5, 7]
    assert [row.cells["path"] for row in rows] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("predicted", ["predicted", "class"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_predictions_are_no_labels(predicted, separator, table):
    """Whichever columns `predict` writes besides; formerly it wrote `class`."""
    header = CsvRows(("target", "b"), 0, Asked()).header().rstrip()
    names = header.replace("predicted", predicted).split(",")
    lines = [names, *([f"{n}.png", "b", "0.9", "", "0.1", "0.9"] for n in range(6))]
    text = "\n".join(map(separator.join, lines))
    message = "table.csv holds predictions, not labels: give a table with the columns"
    assert message in said(table, text)
    with pytest.raises(UserError, match="holds predictions, not labels"):
        load_labeled(str(table), FORM, ("target", "b"))
    lines = [["label", *names], *(["ab"[n % 2], *lines[n + 1]] for n in range(6))]
    table.write_text("\n".join(map(separator.join, lines)))
    assert (
        load_labeled(str(table), FORM, ("a", "b")).split.labels.tolist() == [0, 1] * 3
    )


def test_columns_that_could_have_been_used_are_named(table):
    def notes(header, *more):
        rows = [f"{n}.png,{'ab'[n // 2]},{cell}" for n, cell in enumerate(more)]
        table.write_text("\n".join([header, *rows]))
        return list_images(folder_config(table, 0.5, 0)).notes

    assert notes("path,label,class", *"1122") == (
        "columns that are not used: 'class'; labels are those of 'label'",
    )
    assert notes("path,label,class", *"aabb") == ()
    assert notes("path,label,phase", *["train"] * 4) == ()


def test_a_file_that_a_table_repeats_is_refused_or_counted(tmp_path):
    """However the table writes its path, and whoever makes the splits."""
    place = tmp_path / "my cells"
    for row in range(12):
        write(place / f"{row}.png", row)
    (place / "link.png").symlink_to("0.png")
    table = place / "t.csv"
    rows = [f"{row}.png,{row % 2}" for row in range(12)]

    def refusal(head, *lines, **options):
        table.write_text("\n".join([head, *lines]))
        with pytest.raises(UserError) as error:
            list_images(folder_config(table, **options))
        assert "name each image once" in str(error.value)
        return str(error.value)

    again = [f"./{row}.png,{row % 2}" for row in range(12)]
    assert ".png is named twice, as '" in refusal("path,label", *rows, *again)
    one_side = refusal("path,label", *rows, rows[9], test_fraction=0)
    assert "9.png is named twice, as '1' in train, of which a part is" in one_side
    split = [f"{line},{'test' if n < 4 else 'train'}" for n, line in enumerate(rows)]
    for row in (f"{place / '0.png'},0,train", "link.png,0,train"):
        said = refusal("path,label,split", *split, row, validation=0)
        assert "is named twice, as '0' in train and as '0' in test" in said
    assert "(also called" in said
    head, repeated = "path,label,split", "./9.png,1,train"
    assert "as '1' in train, of which" in refusal(head, *split, repeated)
    labels = refusal(head, *split, "9.png,0,train", validation=0)
    assert "9.png is named twice, as '1' in train and as '0' in train" in labels
    table.write_text("\n".join([head, *split, repeated]))
    assert list_images(folder_config(table, validation=0)).notes == (
        "1 row names an image that another row names too",
    )


def test_a_list_names_images_as_their_table_does(tmp_path):
    place = tmp_path / "my cells"
    for row in range(8):
        write(place / f"{row}.png", row)
    table, listed = tmp_path / "t.csv", tmp_path / "listed.csv"
    rows = [f"{place / f'{row}.png'},{row % 2}" for row in range(8)]
    table.write_text("\n".join(["path,label", *rows]))
    for written in (place / "3.png", place.relative_to(tmp_path) / "3.png"):
        listed.write_text(f"path,other\n{written},x\n,\n")  # a row was cleared
        found = list_images(folder_config(table, exclude=str(listed)))
        assert found.excluded == (place / "3.png",)
    folder = place.relative_to(tmp_path)
    listed.write_text(f"path\n{folder}/3.png\n{place / '3.png'}\n")
    found = list_images(folder_config(table, exclude=str(listed)))
    assert f"1 image left out, listed in {listed}" in found.notes
    listed.write_text("path,other\n./,x\n")
    with pytest.raises(UserError, match=r"listed\.csv lists the whole data set"):
        list_images(folder_config(table, exclude=str(listed)))
