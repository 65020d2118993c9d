"""Images of several shapes: kept whole, so that crops may take any part of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

from hybrid_jax import data
from hybrid_jax.augment import augment, to_float
from hybrid_jax.config.schema import AugmentConfig, DataConfig
from hybrid_jax.data.image_io import FITS
from hybrid_jax.data.loader import create_loader
from hybrid_jax.data.pixel_format import CANVAS_SCALE, stored_extents
from hybrid_jax.data.sampler import TrainingOrder

SIDES = some.integers(1, 3000)
SIZE = (20, 20)
SHAPES = [(90, 40), (25, 70), (60, 60), (16, 18), (300, 50)]  # height and width


@given(some.tuples(SIDES, SIDES), some.tuples(*[some.integers(16, 300)] * 2))
def test_extents_are_as_large_as_need_be_and_no_larger(size, target):
    sizes = np.array([size])
    for fit in FITS:
        (kept,) = stored_extents(sizes, target, fit)
        assert (kept >= 1).all()
        assert (kept <= np.minimum(CANVAS_SCALE * np.array(target), size)).all()
    # What is cropped out later has as many pixels as the target, or as the file.
    (kept,) = stored_extents(sizes, target, "crop")
    window, in_file = ((of / np.array(target)).min() for of in (kept, size))
    assert window >= min(in_file, 1) - 0.51 / min(target)
    # Unless one side is more than twice too long, all of the image is there.
    shape = np.array(size) / target
    if max(shape) <= CANVAS_SCALE * min(shape):
        scale = kept / size
        assert abs(scale[0] - scale[1]) <= 0.51 * (1 / np.array(size)).sum()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Oblong dark images of several shapes; the ends of their long sides are white."""
    place = tmp_path_factory.mktemp("shapes")
    for row, (height, width) in enumerate(SHAPES * 2):
        levels = np.zeros((height, width), np.uint8)
        end = max(height, width) // 5
        along = levels if height > width else levels.T
        along[:end], along[-end:] = 255, 255
        path = place / "ab"[row % 2] / f"{row}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(levels).save(path)
    return place


def load(place, **options):
    return data.load(
        DataConfig("folder", f"{place}.kept", path=str(place), **options, validation=0)
    )


# Of what is padded, those whose sides are whole numbers in the end.
SEEN = {
    "crop": SHAPES,
    "stretch": SHAPES,
    "pad": [(80, 40), (20, 40), (60, 60), (16, 32), (320, 160)],
}


@pytest.mark.parametrize("fit", FITS)
def test_what_is_seen_is_what_pillow_makes_of_the_file(fit, tmp_path):
    y, x = np.mgrid[:300, :300] / 300
    levels = (np.sin(5 * x) + np.cos(4 * y) + 2)[..., None] * np.array([60, 50, 40])
    smooth = Image.fromarray(levels.astype(np.uint8))
    for row, (height, width) in enumerate(SEEN[fit]):
        for name in "ab":
            path = tmp_path / "cells" / name / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            smooth.resize((width, height)).save(path)
    split = load(tmp_path / "cells", image_size=SIZE, fit=fit, test_fraction=0.5).train
    paths = sorted((tmp_path / "cells" / "a").iterdir())
    extents = jnp.asarray(split.extents)
    seen = np.asarray(to_float(jnp.asarray(split.images), SIZE, extents, fit))
    whole = [np.asarray(FITS[fit](Image.open(path), SIZE)) for path in paths]
    apart = [min(np.abs(s - w.astype(float)).mean() for w in whole) for s in seen]
    assert max(apart) < 3


@pytest.mark.parametrize("symmetry", ["flip", "dihedral"])
def test_random_crops_see_the_ends_of_oblong_images(symmetry, place):
    splits = load(place, image_size=SIZE)
    split, lengths = splits.train, splits.train.extents
    oblong = lengths.max(1) > 1.8 * lengths.min(1)
    rows = np.flatnonzero(oblong & (split.images.max((1, 2, 3)) == 255))
    assert len(rows) >= 2
    assert splits.notes == (  # those of 300x50 and of 90x40 px
        "4 images have more than twice the aspect ratio of config.data.image_size: "
        "their ends are left out; config.data.fit=pad keeps them",
    )
    # The middle of such an image, a square, has no end in it.
    middle = to_float(split.images[rows], SIZE, lengths[rows], "crop")
    assert middle.max() < 128
    how = AugmentConfig(crop_scale=0.1, symmetry=symmetry)
    crop = jax.jit(
        lambda key: augment(
            key, split.images[rows], jnp.eye(len(rows)), how, SIZE, lengths[rows]
        )[0]
    )
    seen = np.stack([crop(jax.random.key(seed)) for seed in range(20)])
    share = (seen.max((2, 3, 4)) > 250).mean(0)
    assert (share > 0.05).all()
    assert seen.min() >= 0
    assert (seen.min((2, 3, 4)) < 5).mean() > 0.5


def test_loaders_agree_on_images_of_several_shapes(place):
    taken = []
    for loader in ("resident", "stream"):
        split = load(place, image_size=SIZE, loader=loader).train
        order = TrainingOrder(split.labels, 4, seed=0)
        made = create_loader(split, order, 4)
        images, labels, extents = made.pick(made.data, made.chunk(0, 2), 1)
        np.testing.assert_array_equal(extents, split.extents[order(1)])
        np.testing.assert_array_equal(labels, split.labels[order(1)])
        taken.append(np.asarray(images))
    np.testing.assert_array_equal(*taken)


def test_mean_and_deviation_are_of_what_images_fill(tmp_path):
    rng = np.random.default_rng(0)
    for row, (height, width) in enumerate([(40, 20), (20, 40), (30, 30), (40, 40)]):
        levels = rng.integers(0, 100, (height, width)).astype(np.uint8)
        levels[-1], levels[:, -1] = 255, 255  # what would be repeated
        path = tmp_path / "cells" / "train" / "ab"[row % 2] / f"{row}.png"
        test = tmp_path / "cells" / "test" / "ab"[row % 2] / f"{row}.png"
        for file in (path, test):
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels).save(file)
    splits = load(tmp_path / "cells", image_size=SIZE)
    files = sorted((tmp_path / "cells" / "train").rglob("*.png"))
    whole = np.concatenate([np.asarray(Image.open(file)).ravel() for file in files])
    mean, std = splits.statistics
    np.testing.assert_allclose(
        (mean[0], std[0]), (whole.mean(), whole.std()), rtol=1e-5
    )
