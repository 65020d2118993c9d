"""Metrics against scikit-learn, however images are cut into batches."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    recall_score,
    top_k_accuracy_score,
)

from hybrid_jax.config.schema import LossConfig
from hybrid_jax.training import metrics

CLASSES, ABSENT = 7, 4


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 0, 0, 1, 2, 3, 5, 6], 50).astype(np.int32)
    logits = rng.normal(size=(50, CLASSES)).astype(np.float32)
    logits[np.arange(50), labels] += 1
    return logits, labels


def sums(logits, labels, batch):
    """The sums of each batch, the last of them padded with right answers."""
    parts = []
    for i in range(0, len(labels), batch):
        part = logits[i : i + batch], labels[i : i + batch]
        mask = np.ones(len(part[0]), np.float32)
        more = batch - len(mask)
        part = np.pad(part[0], ((0, more), (0, 0))), np.pad(part[1], (0, more))
        arrays = map(jnp.asarray, (*part, np.pad(mask, (0, more))))
        parts.append(metrics.evaluation_sums(*arrays, LossConfig()))
    return parts


@pytest.mark.parametrize("batch", [50, 8])
def test_evaluation_says_what_scikit_learn_says(split, batch):
    logits, labels = split
    found = metrics.means(*sums(logits, labels, batch))
    predicted, classes = logits.argmax(-1), np.arange(CLASSES)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["top5"] == pytest.approx(
        top_k_accuracy_score(labels, logits, k=5, labels=classes)
    )
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )
    recall = recall_score(
        labels, predicted, average=None, labels=classes, zero_division=0
    )
    by_class = found["class_accuracy"]
    assert by_class.pop(ABSENT) is None
    assert by_class == pytest.approx([*np.delete(recall, ABSENT)])
    assert json.loads(json.dumps(found))["loss"] == found["loss"]

    def loss_at(log_temperature):
        scaled = jax.nn.log_softmax(logits / np.exp(log_temperature))
        return -float(scaled[np.arange(50), labels].mean())

    best = np.exp(minimize_scalar(loss_at, bounds=(-3, 3), method="bounded").x)
    assert found["temperature"] == pytest.approx(best, rel=5e-3)


def test_no_temperature_is_chosen_where_a_label_cannot_be():
    losses = np.full(len(metrics.TEMPERATURES), np.inf)
    assert metrics.best_temperature(losses, 8.0) == 1.0


def test_sums_of_several_steps_add_up_as_those_of_one(split):
    parts = sums(*split, 8)
    steps = jax.tree.map(lambda *rows: jnp.stack(rows), *parts)
    assert metrics.total(steps) == metrics.total(*parts)
    # Sums that were added up, stored as JSON, and are added to later ones.
    stored = json.loads(json.dumps(metrics.total(*parts[:3])))
    assert metrics.means(stored, *parts[3:]) == metrics.means(*parts)
    assert metrics.total() == {}


@pytest.mark.parametrize("training", [True, False])
def test_sums_over_no_images_change_nothing(split, training):
    logits, labels = map(jnp.asarray, split)
    batch = metrics.Predictions(
        logits=logits,
        log_probabilities=logits,
        labels=labels,
        loss=jnp.ones(50),
        mask=jnp.ones(50),
    )
    found = metrics.batch_sums(batch, training=training)
    zeros = metrics.zeros(CLASSES, training=training)
    assert jax.tree.map(jnp.shape, zeros) == jax.tree.map(jnp.shape, found)
    assert metrics.total(zeros, found) == metrics.total(found)
    rows = metrics.zeros(CLASSES, training=training, steps=(3,))
    assert jax.tree.map(lambda x: x[0].shape, rows) == jax.tree.map(jnp.shape, found)


def test_a_mixed_image_counts_as_its_largest_part():
    logits = jnp.float32([[1, 0, 0], [0, 1, 0]])
    targets = jnp.float32([[0.6, 0.4, 0], [0.6, 0.4, 0]])
    found = metrics.means(
        metrics.training_sums(logits, targets, jnp.float32([1, 3]), LossConfig())
    )
    assert found == {"loss": 2.0, "accuracy": 0.5}


def test_evaluation_reports_the_loss_that_training_minimizes(split):
    logits, labels = map(jnp.asarray, split)
    found = metrics.evaluation_sums(
        logits, labels, jnp.ones(50), LossConfig(name="sigmoid", label_smoothing=0.3)
    )
    p = jax.nn.sigmoid(logits).at[jnp.arange(50), labels].multiply(-1)
    expected = -jnp.log(jnp.where(p < 0, -p, 1 - p)).sum(-1).mean()
    assert metrics.means(found)["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("classes", "shown"), [(5, False), (6, True)])
def test_tables_leave_out_the_top_5_of_five_classes(classes, shown):
    found = metrics.with_titles({"accuracy", "top5"}, classes)
    assert [*found] == ["accuracy", "top5"][: 1 + shown]


@pytest.mark.parametrize("name", ["sigmoid", "focal"])
def test_the_temperature_divides_what_the_loss_takes_for_scores(split, name):
    logits, labels = split
    found = metrics.evaluation_sums(
        *map(jnp.asarray, split), jnp.ones(50), LossConfig(name=name)
    )
    scores = np.asarray(jax.nn.log_sigmoid(logits))

    def loss_at(log_temperature):
        scaled = jax.nn.log_softmax(scores / np.exp(log_temperature))
        return -float(scaled[np.arange(50), labels].mean())

    best = np.exp(minimize_scalar(loss_at, bounds=(-3, 3), method="bounded").x)
    assert metrics.means(found)["temperature"] == pytest.approx(best, rel=5e-3)
