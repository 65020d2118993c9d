"""Rows added from outside of the package, in a run of arrays that a config names."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hybrid_jax
from hybrid_jax.config import default
from hybrid_jax.errors import UserError
from hybrid_jax.training import losses, metrics, optimizers, schedules
from tests import small_hybrid


def hinge(logits, targets, config):
    """The squared hinge loss of each class against the rest (Tang 2013)."""
    signs = 2 * (targets > targets.mean(-1, keepdims=True)) - 1
    return (jnp.maximum(1 - signs * logits, 0) ** 2).sum(-1)


def sign_descent(learning_rate, config):
    """signSGD (Bernstein et al. 2018): each step is the learning rate, or 0."""
    return optax.chain(
        optax.stateless(lambda grads, _: jax.tree.map(jnp.sign, grads)),
        optax.scale_by_learning_rate(learning_rate),
    )


def halving(config, lengths):
    """Half the learning rate of the step before."""
    return lambda step: config.learning_rate * 0.5**step


def images_of_each_prediction(batch):
    return (batch.mask[:, None] * jax.nn.one_hot(batch.logits.argmax(-1), 3)).sum(0)


@pytest.fixture
def rows(monkeypatch):
    def signs(logits):
        return jnp.where(logits == logits.max(-1, keepdims=True), 0.0, -jnp.inf)

    def share(sums, images):
        return (sums / images).tolist()

    metric = metrics.Metric(images_of_each_prediction, share, training=True)
    for table, name, row in (
        (losses.LOSSES, "hinge", losses.Loss(hinge, signs)),
        (optimizers.OPTIMIZERS, "sign_descent", sign_descent),
        (schedules.SCHEDULES, "halving", halving),
        (metrics.METRICS, "predicted", metric),
    ):
        monkeypatch.setitem(table, name, row)


def tiny_config():
    small_hybrid.add_row()
    config = default()
    config.model.name = "small_hybrid"
    config.model.strides = (2, 2, 1)
    config.data.image_size = (16, 16)
    config.data.validation = 0
    config.train.epochs = 1
    config.train.batch_size = 8
    config.train.log_every = 1
    config.optim.warmup_epochs = 0
    config.optim.ema_decay = 0.0
    config.loss.name = "hinge"
    config.optim.name = "sign_descent"
    config.optim.schedule = "halving"
    config.optim.learning_rate = 2**-8
    return config


def test_rows_from_outside_train_and_evaluate(rows):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 16, 16, 1), np.uint8)
    labels = np.arange(24) % 3
    run = hybrid_jax.fit(tiny_config(), {"train": (images, labels)})
    trained = [row for row in run.history if row["split"] == "train"]
    assert [row["learning_rate"] for row in trained] == [2**-8, 2**-9, 2**-10]

    # A bias begins at 0, and goes by each of these steps up or down.
    bias = run.variables["params"]["head"]["classifier"]["bias"]
    steps = np.array([2**-8, 2**-9, 2**-10])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1)
    assert set(np.abs(np.asarray(bias))) <= set(np.abs(steps @ signs))

    # Class scores begin at 0 or near it, where the loss of a class is 1.
    assert trained[0]["loss"] == pytest.approx(3, rel=0.5)
    found = run.evaluate(images, labels)
    for row in (*trained, found):
        assert sum(row["predicted"]) == pytest.approx(1)
    probabilities = run.predict(images)
    assert set(np.unique(probabilities)) == {0, 1}
    np.testing.assert_allclose(probabilities.mean(0), found["predicted"], atol=1e-6)
    right = probabilities.argmax(-1) == labels
    assert found["accuracy"] == pytest.approx(right.mean())


def test_a_row_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"'hinge' is not allowed: one of softmax, "):
        hybrid_jax.fit(tiny_config(), {})
