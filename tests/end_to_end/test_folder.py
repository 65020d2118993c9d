"""The command on a user's own folder, and what it says of one that is not right."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.inspection import features
from hybrid_jax.inspection.near_duplicates import BY_FEATURES
from hybrid_jax.inspection.scan import find, scan
from tests import small_hybrid
from tests.commands import hybrid_jax
from tests.data.files import write_folder


@pytest.fixture
def run(tmp_path):
    small_hybrid.add_row()
    place = write_folder(tmp_path / "my cells", each=20)

    def run(*args):
        return hybrid_jax(
            "--config=configs/folder.py:small_hybrid",
            f"--config.data.path={place}",
            f"--config.data.dir={tmp_path / 'kept'}",
            f"--workdir={tmp_path / 'run'}",
            "--config.data.validation=0",
            "--config.train.epochs=2",
            "--config.train.report=false",
            "--config.optim.warmup_epochs=1",
            "--config.train.batch_size=16",
            *args,
        )

    return place, run


def test_a_folder_is_trained_on_and_evaluated(run, capsys):
    place, run = run
    (place / "digit 1" / "broken.png").write_bytes(b"")
    stopped = run()
    assert stopped.returncode == 2
    assert stopped.stderr.count("\n") == 1
    assert f"{place}/digit 1/broken.png (it is empty)" in stopped.stderr
    options = (
        "--config.data.on_error=skip",
        "--config.loss.class_weights=balanced",
        "--config.augment.symmetry=rotation",
        "--config.augment.policy=trivial_augment",
    )
    done = run(*options)
    assert done.returncode == 0, done.stderr
    assert "48 training images, 12 test images, 3 classes" in done.stdout
    assert "1 image skipped, which cannot be read: " in done.stdout
    assert "broken.png: it is empty" in done.stdout
    again = run("--mode=eval", *options)
    assert again.returncode == 0, again.stderr
    accuracy = done.stdout.split("test accuracy")[1].split("│")[1].strip()
    assert accuracy in again.stdout
    workdir = Path(done.args[4].split("=")[1])
    (workdir / "checkpoints" / "9999").mkdir()
    assert_its_features_find_a_copy(place, workdir)
    assert "skipping checkpoint" in capsys.readouterr().err


def assert_its_features_find_a_copy(place, workdir):
    """Of all pairs, an image and its copy with one other level are most alike."""
    (place / "digit 1" / "broken.png").unlink()
    original = next((place / "digit 0").iterdir())
    copy = np.asarray(Image.open(original)).copy()
    copy[12, 12] ^= 1
    Image.fromarray(copy).save(place / "digit 2" / "copy.png")
    options = DataConfig("folder", path=str(place))
    images = scan(find(options), options)
    best = features.find(workdir, images)[0]
    assert {images.name(best.first), images.name(best.second)} == {
        f"digit 0/{original.name}",
        "digit 2/copy.png",
    }
    assert (best.similarity > 0.9, best.band) == (True, BY_FEATURES)
