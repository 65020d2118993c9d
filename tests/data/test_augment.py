import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.data.augment import (
    Augmentation,
    augment,
    mix,
    normalise,
    random_crop,
    random_flip,
    to_float,
)

KEY = jax.random.key(0)


def batch(count=64, size=(8, 10), channels=3):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (count, *size, channels)).astype(np.float32)
    targets = np.eye(5, dtype=np.float32)[rng.integers(0, 5, count)]
    return jnp.asarray(images), jnp.asarray(targets)


def test_crop_is_a_shift_with_black_coming_in():
    images, _ = batch()
    cropped = np.asarray(random_crop(KEY, images, 2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = set()
    for image, around in zip(cropped, padded, strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(image, around[y : y + 8, x : x + 10])
        ]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) > 15  # of 25 shifts, in 64 draws


def test_flip_mirrors_about_half():
    images, _ = batch(400, (3, 4), 1)
    flipped = np.asarray(random_flip(KEY, images))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    kept = (flipped == images).all((1, 2, 3))
    assert (mirrored | kept).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize("alphas", [(0.5, 0.0), (0.0, 1.0), (0.5, 1.0)], ids=str)
def test_mixing_gives_each_label_the_share_of_its_pixels(alphas):
    count, pixels = 256, 64
    # An image of ones among zeros: its share of the mixture can be read off.
    marked = jnp.zeros((count, 8, 8, 1)).at[: count // 2].set(1.0)
    labels = jax.nn.one_hot((jnp.arange(count) < count // 2).astype(int), 2)
    images, targets = mix(KEY, marked, labels, *alphas)
    np.testing.assert_allclose(images.mean((1, 2, 3)), targets[:, 1], atol=1e-6)
    np.testing.assert_allclose(targets.sum(-1), 1.0, atol=1e-6)
    whole = np.isin(np.asarray(images), [0.0, 1.0]).all((1, 2, 3))
    if alphas == (0.5, 0.0):
        constant = np.ptp(np.asarray(images).reshape(count, pixels), axis=1) < 1e-6
        assert constant.all()
        assert not whole.all()
    elif alphas == (0.0, 1.0):
        assert whole.all()
    else:
        assert 0.3 < whole.mean() < 0.7


def test_cutmix_boxes_have_the_area_of_a_beta_distribution():
    marked = jnp.zeros((4000, 32, 32, 1)).at[:2000].set(1.0)
    labels = jax.nn.one_hot((jnp.arange(4000) < 2000).astype(int), 2)
    _, targets = mix(KEY, marked, labels, 0.0, 1.0)
    pasted = 1 - np.asarray(targets[:2000, 1])
    # Uniform areas, less what boxes lose over the border.
    assert 0.2 < pasted.mean() < 0.5
    assert pasted.min() < 0.02
    assert pasted.max() > 0.7


def test_the_same_key_repeats_and_another_differs():
    images, targets = batch()
    how = Augmentation(crop_padding=2, flip=True, mixup=0.2, cutmix=1.0)
    once, again = (augment(KEY, images, targets, how) for _ in range(2))
    other = augment(jax.random.key(1), images, targets, how)
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.asarray(once[0]) != np.asarray(other[0])).any()


def test_nothing_asked_for_changes_nothing():
    images, targets = batch()
    out = augment(KEY, images, targets, Augmentation())
    np.testing.assert_array_equal(out[0], images)
    np.testing.assert_array_equal(out[1], targets)


def test_resize_is_bilinear_and_skipped_where_sizes_agree():
    from PIL import Image

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 8, 8, 1), np.uint8)
    ours = np.asarray(to_float(jnp.asarray(image), (16, 12)))[0, :, :, 0]
    theirs = Image.fromarray(image[0, :, :, 0]).convert("F")
    theirs = np.asarray(theirs.resize((12, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    np.testing.assert_array_equal(to_float(jnp.asarray(image), (8, 8)), image)


def test_normalised_training_images_have_mean_0_and_deviation_1(digits):
    mean, std = digits.statistics
    images = np.asarray(normalise(to_float(digits.train.images, (8, 8)), mean, std))
    assert abs(images.mean()) < 1e-4
    assert abs(images.std() - 1) < 1e-4
