"""A list names the user's images as their folder does, or as tables of predictions."""

import os

import pytest

from hybrid_jax.data.sources.file_list import list_images
from hybrid_jax.errors import UserError
from tests.data.files import folder_config, write

NAMES = [f"{label}/{row}.png" for row, label in enumerate("aaaabbbb")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of images below the current folder, with a link to it elsewhere."""
    for row, name in enumerate(NAMES):
        write(tmp_path / "cells" / name, row)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "cells").symlink_to(tmp_path / "cells")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cells"


def left_out(path, *lines):
    """The images that a list with these lines leaves out."""
    with open("listed.csv", "w", encoding="utf-8") as file:
        file.write("\n".join(["path,label", *(f"{line},a" for line in lines)]))
    found = list_images(folder_config(path, 0, exclude="listed.csv"))
    return sorted(os.path.join(path.parent.name, path.name) for path in found.excluded)


@pytest.mark.parametrize(
    "path", ["cells", "./links/cells", "{}/cells", "{}/links/cells"]
)
@pytest.mark.parametrize("written", ["cells", "{}/cells", "{}/links/cells"])
def test_images_are_found_from_the_current_folder_and_the_top(path, written, place):
    """Whatever links lead to them."""
    path, written = (text.format(place.parent) for text in (path, written))
    assert left_out(path, f"{written}/{NAMES[2]}", NAMES[3]) == NAMES[2:4]
    write(place / "c" / "8.png", 8)
    assert left_out(path, f"{written}/c") == ["c/8.png"]
    with pytest.raises(UserError, match=r"listed\.csv lists the whole data set"):
        left_out(path, written)


def test_an_empty_list_leaves_nothing_out_and_says_so(place):
    """As of copies, where there are none."""
    assert left_out("cells") == []
    found = list_images(folder_config("cells", 0, exclude="listed.csv"))
    assert "0 images left out, listed in listed.csv" in found.notes


def test_a_class_may_be_a_link_to_a_folder_elsewhere(place):
    (place / "a").rename(place.parent / "other")
    (place / "a").symlink_to(place.parent / "other")
    assert left_out("links/cells", place / NAMES[1]) == NAMES[1:2]


def test_the_folder_of_the_images_is_looked_in_first(place):
    write(place / "cells" / NAMES[2], 2)
    write(place / "cells" / "a" / "9.png", 9)
    left_out(place, f"cells/{NAMES[2]}")
    found = list_images(folder_config(place, 0, exclude="listed.csv"))
    assert found.excluded == (place / "cells" / NAMES[2],)


@pytest.mark.parametrize("gone", [False, True])
def test_a_path_outside_of_the_images_is_refused(gone, place):
    outside = place.parent / "other" / "a" / "0.png"
    if not gone:
        write(outside, 0)
    for path in (outside, outside.relative_to(place.parent)):
        with pytest.raises(UserError) as error:
            left_out(place, NAMES[0], path)
        assert str(error.value).endswith(
            f"match no image (1 of 2): {path}; give paths relative to config.data.path,"
            " or train/NUMBER"
        )


@pytest.mark.parametrize("written", ["cells/{}", "tables/../cells/{}", "../cells/{}"])
def test_a_table_may_name_images_beside_its_folder(written, place):
    (place.parent / "tables").mkdir()
    table = place.parent / "tables" / "cells.csv"
    rows = [f"../cells/{name},{name[0]}" for name in NAMES]
    table.write_text("\n".join(["path,label", *rows]))
    for path in (table, "tables/cells.csv"):
        assert left_out(path, place / NAMES[5], written.format(NAMES[6])) == NAMES[5:7]


@pytest.mark.parametrize("folder", ["cells", "links/cells"])
@pytest.mark.parametrize("cell", ["{}/cells/{}", "{}/links/cells/{}"])
def test_a_table_may_lead_to_its_own_folder_by_links(folder, cell, place):
    rows = [f"{cell.format(place.parent, name)},{name[0]}" for name in NAMES]
    (place / "cells.csv").write_text("\n".join(["path,label", *rows]))
    paths = place / NAMES[5], f"links/cells/{NAMES[6]}", NAMES[7]
    assert left_out(f"{folder}/cells.csv", *paths) == NAMES[5:8]
