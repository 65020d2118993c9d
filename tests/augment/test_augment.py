"""All of it together: what goes in and out, and what decides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hybrid_jax import augment as package
from hybrid_jax.augment import normalize, to_float
from hybrid_jax.augment.affine import SYMMETRIES
from hybrid_jax.config.schema import AugmentConfig
from tests.augment.images import labels, noise

KEY = jax.random.key(0)
ALL = AugmentConfig(
    crop_scale=0.3,
    symmetry="flip",
    policy="rand_augment",
    color_jitter=0.4,
    hue_jitter=0.1,
    erasing=0.5,
    mixup=0.8,
    cutmix=1.0,
)
augment = jax.jit(package.augment, static_argnums=(3, 4))


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(crop_padding=2, symmetry="flip", mixup=0.2, cutmix=1.0),
        AugmentConfig(policy="trivial_augment", symmetry="rotation"),
        ALL,
    ],
    ids=["shift", "turn", "all"],
)
def test_the_same_key_repeats_and_another_differs(config):
    images, targets = noise(64, (8, 8)), labels(64)
    once, again = (augment(KEY, images, targets, config, (8, 8)) for _ in range(2))
    other, _ = augment(jax.random.key(1), images, targets, config, (8, 8))
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (np.asarray(once[0]) != np.asarray(other)).any((1, 2, 3)).mean() > 0.8


def test_images_of_a_batch_are_augmented_each_its_own_way():
    same, targets = noise(1, (12, 12)).repeat(32, 0), labels(32)
    config = AugmentConfig(symmetry="rotation")
    out, _ = augment(KEY, same, targets, config, (12, 12))
    assert len(np.unique(np.asarray(out).mean((1, 2, 3)))) == 32


@pytest.mark.parametrize("size", [(8, 10), (224, 224)], ids=str)
def test_nothing_asked_for_is_what_evaluation_sees(size):
    images, targets = noise(2, (8, 10)), labels(2)
    out = augment(KEY, images, targets, AugmentConfig(), size)
    np.testing.assert_allclose(out[0], to_float(images, size), atol=0.01)
    np.testing.assert_array_equal(out[1], targets)
    if size == (8, 10):
        np.testing.assert_array_equal(out[0], images)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    stored=st.sampled_from([(8, 8), (6, 9)]),
    size=st.sampled_from([(8, 8), (16, 12), (4, 4)]),
    channels=st.sampled_from([1, 3]),
    batch=st.sampled_from([1, 5, 16]),
    crop=st.sampled_from([{}, {"crop_padding": 2}, {"crop_scale": 0.1}]),
    symmetry=st.sampled_from(list(SYMMETRIES)),
    policy=st.sampled_from(["none", "rand_augment", "trivial_augment"]),
    rest=st.sampled_from(
        [{}, {"color_jitter": 0.4, "hue_jitter": 0.5}, {"erasing": 1.0, "mixup": 0.8}]
    ),
)
def test_any_settings_give_levels_and_probabilities(
    stored, size, channels, batch, crop, symmetry, policy, rest
):
    config = AugmentConfig(symmetry=symmetry, policy=policy, **crop, **rest)
    images, targets = noise(batch, stored, channels), labels(batch)
    images, targets = augment(KEY, images, targets, config, size)
    assert images.shape == (batch, *size, channels)
    assert images.dtype == targets.dtype == np.float32
    assert float(images.min()) >= 0
    assert float(images.max()) <= 255.001
    np.testing.assert_allclose(targets.sum(-1), 1.0, atol=1e-6)


def test_resize_is_bilinear_and_skipped_where_sizes_agree():
    image = noise(1, (8, 8), 1)
    ours = np.asarray(to_float(jnp.asarray(image), (16, 12)))[0, :, :, 0]
    theirs = Image.fromarray(image[0, :, :, 0]).convert("F")
    theirs = np.asarray(theirs.resize((12, 16), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    np.testing.assert_array_equal(to_float(jnp.asarray(image), (8, 8)), image)


def test_normalized_training_images_have_mean_0_and_deviation_1(digits):
    mean, std = digits.statistics
    images = np.asarray(normalize(to_float(digits.train.images, (8, 8)), mean, std))
    assert abs(images.mean()) < 1e-4
    assert abs(images.std() - 1) < 1e-4


def test_a_stage_is_added_by_a_row_and_leaves_the_other_draws_alone(monkeypatch):
    images, targets = noise(8, (8, 8)), labels(8)

    def run(config):
        function = jax.jit(lambda *args: package.augment(*args, config, (8, 8)))
        return function(KEY, images, targets)

    config = AugmentConfig(crop_scale=0.3, symmetry="flip", erasing=0.5)
    before = run(config)
    keys = []

    def add_one(key, images, targets, config):
        keys.append(key)
        return images + 1, targets

    row = package.Stage("add_one", lambda config: config.erasing > 0, add_one)
    monkeypatch.setattr(package, "STAGES", [*package.STAGES, row])
    after = run(config)
    np.testing.assert_array_equal(after[0], before[0] + 1)
    np.testing.assert_array_equal(after[1], before[1])
    run(AugmentConfig())
    assert len(keys) == 1  # off, it is not traced
