"""Shifts and measures against loops, SciPy and finite differences."""

import contextlib
import copy
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from hybrid_jax.equivariance import agreement, measures, shifts
from hybrid_jax.equivariance.measure import Settings, measure
from hybrid_jax.equivariance.measures import Forward
from hybrid_jax.equivariance.networks import noise_batches, random_variables
from hybrid_jax.errors import UserError
from hybrid_jax.training.losses import LOSSES
from tests import small_hybrid

SIDE = 16


@pytest.fixture(scope="module")
def forward():
    """A network whose running statistics are random, at 16 px: two halvings."""
    model = small_hybrid.create(5, SIDE)
    return Forward(model, random_variables(model, 3, np.float32, seed=0))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)


def test_cyclic_shifts(images):
    moved = shifts.shift_cyclic(images, jnp.array([[1, -2], [0, 3]]))
    np.testing.assert_array_equal(moved[0], np.roll(images[0], (1, -2), (0, 1)))
    np.testing.assert_array_equal(moved[1], np.roll(images[1], (0, 3), (0, 1)))


@pytest.mark.parametrize("shift", [(0, 0), (2, -3), (0.25, 0), (-1.5, 2.75), (6, 0.5)])
def test_shifts_before_a_camera(images, shift):
    moved = shifts.shift_before_camera(images, jnp.float32([shift, shift]))
    expected = ndimage.shift(images, (0, *shift, 0), order=1, mode="mirror")
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_turns_of_an_oblong_image_keep_its_shape():
    image = np.arange(2 * 4 * 6 * 1).reshape(2, 4, 6, 1)
    found = shifts.symmetries(4, 6)
    assert {move(image).shape for move in found.values()} == {image.shape}
    assert len(found) == 3
    assert len(shifts.symmetries(4, 4)) == 5


def test_aligned_error_is_the_least_of_all_shifts():
    rng = np.random.default_rng(0)
    found, expected = rng.normal(size=(2, 3, 4, 5, 2))
    found[0] = np.roll(expected[0], (3, 1), (0, 1))
    errors = [
        measures.relative_errors(found, np.roll(expected, shift, (1, 2)))
        for shift in itertools.product(range(4), range(5))
    ]
    aligned = measures.aligned_errors(found, expected)
    np.testing.assert_allclose(aligned, np.min(errors, 0), atol=1e-15)
    assert aligned[0] == 0


def test_errors_by_part_and_shift(forward, images):
    errors = measures.shift_errors(forward, images)
    assert [*errors] == ["stem", "stage1", "stage2", "logits"]
    assert {tuple(row) for row in errors.values()} == {("1", "2", "4", "8")}
    still = forward.outputs(images)
    for pixels, direction in itertools.product((1, 4), measures.DIRECTIONS):
        shift = [pixels * part for part in direction]
        moved = forward.outputs(np.roll(images, shift, (1, 2)))
        difference = moved["logits"] - still["logits"]
        norm = np.linalg.norm(still["logits"], axis=1)
        error = (np.linalg.norm(difference, axis=1) / norm).max()
        assert errors["logits"][str(pixels)] >= error * (1 - 1e-5)
    down = forward.outputs(np.roll(images, (4, 4), (1, 2)))["stage1"]
    expected = np.roll(still["stage1"], (1, 1), (1, 2))  # behind a stride of 4
    error = np.linalg.norm((down - expected).reshape(2, -1), axis=1)
    error /= np.linalg.norm(expected.reshape(2, -1), axis=1)
    found = measures.map_errors(down, still["stage1"], (4, 4), (SIDE, SIDE))
    np.testing.assert_allclose(found, error, rtol=1e-4)


def test_every_shift(forward, images):
    moved = [np.roll(images[0], shift, (0, 1)) for shift in np.ndindex(SIDE, SIDE)]
    logits = np.asarray(forward.logits(np.stack(moved)), np.float64)
    error = np.linalg.norm(logits - logits[0], axis=1).max()
    found = measures.every_shift_error(forward, images[:1])
    assert found == pytest.approx(error / np.linalg.norm(logits[0]), rel=1e-4)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_lie_derivative_against_finite_differences(forward, images, loss):
    """Of the probabilities that a run with this loss gives."""
    forward = copy.copy(forward)
    forward._scores = LOSSES[loss].scores

    def probabilities(shift):
        moved = shifts.shift_before_camera(images, jnp.float32([shift] * 2))
        found = LOSSES[loss].probabilities(forward.logits(moved))
        return np.asarray(found, np.float64)

    step, still = 1e-2, probabilities((0, 0))
    slopes = np.stack(
        [(probabilities(shift) - still) / step for shift in [(step, 0), (0, step)]]
    )
    found = forward.slopes(images)
    np.testing.assert_allclose(found, slopes, atol=0.05 * np.abs(slopes).max())
    expected = np.abs(np.asarray(found)).mean()
    assert measures.lie_derivative(forward, images) == pytest.approx(expected)
    assert expected > 0


def test_agreement_of_predictions():
    """A network that tells the quarter of the image that is the brightest."""

    def logits(images):
        quarters = jnp.asarray(images).reshape(-1, 2, 8, 2, 8, 3).sum((2, 4, 5))
        return quarters.reshape(-1, 4)

    dull = SimpleNamespace(size=(SIDE, SIDE), logits=logits)
    batches = [*noise_batches((SIDE, SIDE, 3), 6, np.float32, seed=0)]
    images = np.concatenate([batch.images for batch in batches])[:6]
    labels = np.array([0, 1, 2, 3, 0, 1])
    labeled = [agreement.Batch(images, labels, 6)]
    found = agreement.predict(dull, labeled, seed=0)
    still = np.asarray(logits(images)).argmax(1)
    assert found.accuracy["as they are"] == (still == labels).mean()
    mirrored = np.asarray(logits(images[:, :, ::-1])).argmax(1)
    assert found.agreement["mirrored"] == (mirrored == still).mean()
    rng = np.random.default_rng(0)
    offsets = rng.integers(-3, 3, (6, 2))  # the first that are drawn
    pairs = zip(images, offsets, strict=True)
    moved = np.stack([np.roll(x, offset, (0, 1)) for x, offset in pairs])
    stays = np.asarray(logits(moved)).argmax(1) == still
    assert found.agreement["cyclic -3 to 2 px"] == stays.mean()
    unlabeled = agreement.predict(dull, batches, seed=0)
    assert len(unlabeled.classes["as they are"]) == 6  # without padding
    assert unlabeled.accuracy == {}


@pytest.mark.parametrize(
    ("side", "low", "high"), [(256, -16, 16), (32, -2, 2), (8, 0, 1)]
)
def test_crops_lie_within_an_eighth_of_the_side(side, low, high):
    assert agreement.crop_range(side) == (low, high)


def test_weights_that_are_no_numbers_have_no_perfect_score(forward, images):
    nothing = jax.tree.map(lambda x: x * np.nan, forward._variables)
    broken = Forward(forward.model, nothing)
    assert np.isnan(measures.shift_errors(broken, images, (1,))["logits"]["1"])
    assert np.isnan(measures.every_shift_error(broken, images[:1]))
    subject = SimpleNamespace(
        row="net",
        weights="trained",
        name="run",
        model=forward.model,
        forward=lambda: broken,
        first_images=lambda count: images[:count],
    )
    with pytest.raises(UserError, match="net, trained, run: its logits are not finite"):
        measure(subject, Settings(images=2), contextlib.nullcontext)
