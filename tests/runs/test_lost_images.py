"""The images of a run that has begun are found again, or their loss is explained."""

import pytest

from hybrid_jax.errors import UserError
from hybrid_jax.runs.lost_images import load_again
from tests.data.files import folder_config, write_folder


def test_images_that_were_moved_can_be_named_again(tmp_path):
    place = write_folder(tmp_path / "cells")
    config = folder_config(place, dir=str(tmp_path / "kept"))
    load_again(config)
    place.rename(tmp_path / "moved")
    with pytest.raises(UserError) as error:
        load_again(config)
    assert str(error.value) == (
        f"config.data.path={str(place)!r} does not exist: if the images of the run "
        "were moved, say where with --config.data.path"
    )


def test_a_run_that_set_a_share_in_vain_is_loaded(tmp_path):
    """Versions before took no notice of the share beside splits of the user."""
    place = tmp_path / "cells"
    write_folder(place / "train")
    write_folder(place / "test", each=2)
    config = folder_config(place, test_fraction=0.5, dir=str(tmp_path / "kept"))
    assert len(load_again(config).test) == 6
