"""Outputs among the images: refused before they become a class."""

from pathlib import Path

import pytest

from hybrid_jax import data
from hybrid_jax.config import resolve as configs
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.sources.class_folders import check_outside
from hybrid_jax.data.sources.file_list import find_images
from hybrid_jax.engine.fit import fit
from hybrid_jax.errors import UserError
from tests.data.files import folder_config, write, write_folder


@pytest.mark.parametrize(
    ("layout", "below", "refused"),
    [
        ("", "runs/x", True),
        ("", "digit 1/x", True),
        ("", "../runs/x", False),
        ("", ".runs/x", False),
        ("split", "train/x", True),
        ("split", "runs/x", False),
    ],
)
def test_only_what_would_become_a_class_is_refused(tmp_path, layout, below, refused):
    place = tmp_path / "cells"
    for part in ("train", "test") if layout else ("",):
        write_folder(place / part)
    folder = place / below

    def look():
        check_outside("--workdir", folder, folder_config(place))

    if refused:
        with pytest.raises(UserError, match=r"^--workdir=.+ lies among the images of "):
            look()
    else:
        look()
    before = find_images(folder_config(place)).train.paths
    write(folder / "augmented.png", 3)
    write(folder / "more" / "augmented.png", 3)
    after = find_images(folder_config(place)).train.paths
    assert (before != after) is refused


def test_files_of_decoded_images_do_not_lie_among_the_images(tmp_path):
    place = write_folder(tmp_path / "cells")
    with pytest.raises(UserError, match=r"^config\.data\.dir=.+ lies among the images"):
        data.load(folder_config(place, dir=str(place / "digit 1")))
    assert not [*place.rglob("folders")]
    for part in "train", "test":
        write_folder(tmp_path / "split" / part)
    data.load(folder_config(tmp_path / "split", dir=str(tmp_path / "split")))


def test_links_lead_into_the_images_too_and_a_table_s_folder_holds_anything(tmp_path):
    place = write_folder(tmp_path / "cells")
    (tmp_path / "link").symlink_to(place)
    for folder, path in (("link/runs", "cells"), ("cells/runs", "link")):
        with pytest.raises(UserError):
            check_outside("--output", tmp_path / folder, folder_config(tmp_path / path))
    (place / "table.csv").write_text("path,label\n")
    for path in (place / "table.csv", tmp_path / "nowhere"):
        check_outside("--output", place / "runs", folder_config(path))
    check_outside("--workdir", Path("runs"), folder_config(""))  # loading refuses it
    other = DataConfig("digits", path=str(place))  # a path that it does not read
    check_outside("--workdir", place / "runs", other)


def test_a_run_among_its_images_is_refused_before_anything_is_made(tmp_path):
    place = write_folder(tmp_path / "cells")
    fields = {"data.name": "folder", "data.path": str(place)}
    config = configs.to_config_dict(configs.flatten(configs.default()) | fields)
    before = {*Path(tmp_path).rglob("*")}
    with pytest.raises(UserError, match="lies among the images"):
        fit(config, workdir=place / "runs" / "x")
    assert {*Path(tmp_path).rglob("*")} == before
