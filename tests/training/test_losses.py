"""Losses against PyTorch, and what class weights and soft targets mean to them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from hybrid_jax.config.schema import LossConfig
from hybrid_jax.training import losses

torch = pytest.importorskip("torch")

CLASSES = 5


@pytest.fixture(scope="module")
def batch():
    """Logits, some of them extreme, and targets as of smoothed and mixed labels."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (12, CLASSES)).astype(np.float32)
    logits[0, :2] = 60.0, -60.0
    targets = rng.dirichlet(np.ones(CLASSES), 12).astype(np.float32)
    targets[:4] = np.eye(CLASSES, dtype=np.float32)[:4]
    return logits, targets


def ours(name, logits, targets, **fields):
    return losses.compute_loss(
        jnp.asarray(logits), jnp.asarray(targets), LossConfig(name=name, **fields)
    )


def binary(logits, targets):
    pair = map(torch.tensor, (logits, targets))
    return torch.nn.functional.binary_cross_entropy_with_logits(*pair, reduction="none")


def test_softmax_is_the_cross_entropy_of_pytorch(batch):
    expected = torch.nn.functional.cross_entropy(
        *map(torch.tensor, batch), reduction="none"
    )
    np.testing.assert_allclose(ours("softmax", *batch), expected, rtol=1e-5, atol=1e-6)


def test_sigmoid_is_the_binary_cross_entropy_of_pytorch_summed_over_classes(batch):
    expected = binary(*batch).sum(-1)
    np.testing.assert_allclose(ours("sigmoid", *batch), expected, rtol=1e-5, atol=1e-6)


def test_focal_is_its_equation_for_soft_targets_too(batch):
    logits, targets = batch
    p = scipy.special.expit(logits.astype(np.float64))
    right = targets * p + (1 - targets) * (1 - p)
    expected = ((1 - right) ** 1.5 * binary(logits, targets).numpy()).sum(-1)
    found = ours("focal", logits, targets, focal_gamma=1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        ours("focal", logits, targets, focal_gamma=0.0),
        ours("sigmoid", logits, targets),
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", losses.LOSSES)
def test_class_weights_multiply_the_loss_of_an_image_of_a_class(batch, name):
    logits, weights = batch[0][:CLASSES], np.float32([0.5, 1, 2, 3, 7])
    hard = np.eye(CLASSES, dtype=np.float32)
    plain = ours(name, logits, hard)
    np.testing.assert_allclose(
        ours(name, logits, hard * weights), plain * weights, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_rare_class_takes_no_other_classes_images(name):
    """Smoothing and a large weight together once made it the best answer for all."""
    weights = np.float32([0.52, 12.5])  # of 960 and 40 images
    targets = losses.weigh_and_smooth(np.eye(2, dtype=np.float32), weights, 0.1)
    np.testing.assert_allclose(targets.sum(-1), weights, rtol=1e-6)

    @jax.jit
    def step(logits):
        def loss(logits):
            return ours(name, logits, targets, label_smoothing=0.1).sum()

        return logits - 0.05 * jax.grad(loss)(logits)

    logits = jnp.zeros((2, 2))
    for _ in range(2000):
        logits = step(logits)
    found = np.asarray(losses.LOSSES[name].probabilities(logits))
    assert (found.argmax(-1) == [0, 1]).all()


def test_smoothing_is_that_of_optax_and_of_each_part_of_a_mix(batch):
    shares, weights = batch[1], np.float32([0.5, 1, 2, 3, 7])
    found = losses.weigh_and_smooth(shares, None, 0.2)
    np.testing.assert_allclose(found, optax.smooth_labels(shares, 0.2), atol=1e-6)
    parts = [
        optax.smooth_labels(row, 0.2) * weight
        for row, weight in zip(np.eye(CLASSES, dtype=np.float32), weights, strict=True)
    ]
    found = losses.weigh_and_smooth(shares, weights, 0.2)
    np.testing.assert_allclose(found, shares @ np.stack(parts), rtol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_the_loss_of_mixed_images_is_the_mean_over_their_classes(batch, name):
    """Cross-entropies are linear in targets, so weights act on each class's part."""
    logits, targets = batch
    weights = np.float32([0.5, 1, 2, 3, 7])
    one_class = [
        ours(name, logits, np.broadcast_to(row, logits.shape))
        for row in np.eye(CLASSES, dtype=np.float32)
    ]
    expected = (np.stack(one_class, -1) * targets * weights).sum(-1)
    found = ours(name, logits, targets * weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_probabilities_sum_to_1_and_rank_classes_as_logits_do(batch, name):
    logits = batch[0]
    found = np.asarray(losses.LOSSES[name].probabilities(jnp.asarray(logits)))
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    assert (found.argmax(-1) == logits.argmax(-1)).all()
    exact = logits[1:].astype(np.float64)
    expected = np.exp(exact) if name == "softmax" else scipy.special.expit(exact)
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(found[1:], expected, rtol=1e-4, atol=1e-7)


def test_balanced_weights_are_inverse_to_the_images_of_a_class():
    labels = np.array([0, 0, 0, 1])
    weights = losses.balanced_weights(labels, 3)
    np.testing.assert_allclose(weights, [4 / 6, 4 / 2, 0])  # of two classes present
    assert weights[labels].mean() == pytest.approx(1)
    assert losses.CLASS_WEIGHTS["none"](labels, 3) is None
