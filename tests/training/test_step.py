"""The steps: what they change, and that the ways of running them agree."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from hybrid_jax.augment import normalize, to_float
from hybrid_jax.config.schema import AugmentConfig, LossConfig, OptimConfig
from hybrid_jax.data import Split
from hybrid_jax.data.loader import create_loader
from hybrid_jax.data.sampler import EvaluationOrder, TrainingOrder
from hybrid_jax.training import losses, metrics, multi_step, optimizers, schedules
from hybrid_jax.training.packed_params import unpack
from hybrid_jax.training.state import create_state
from hybrid_jax.training.step import (
    Network,
    Task,
    eval_step,
    train_step,
    training_batch,
)
from tests import small_hybrid

CLASSES, BATCH = 3, 8


# One object of each, so that tests of the same task share its programs.
SGD = optax.sgd(0.1)
single_step = jax.jit(train_step)


def create_sgd(rates):
    return SGD


def make_task(optimizer=None, **changes):
    model = small_hybrid.create(CLASSES, 16, drop_path=changes.pop("drop_path", 0.0))
    return Task(
        model=model,
        create_optimizer=(lambda rates: optimizer) if optimizer else create_sgd,
        rates=optimizers.Rates(0.0, 0.0),  # it has its own
        image_size=(16, 16),
        mean=jnp.float32([127.0]),
        std=jnp.float32([64.0]),
        **changes,
    )


def random_task():
    return make_task(
        augmentation=AugmentConfig(
            crop_padding=2, symmetry="flip", mixup=0.5, cutmix=1.0
        ),
        ema_decay=0.9,
        drop_path=0.2,
        loss=LossConfig(label_smoothing=0.1),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _create_state(model, optimizer, averaged, seed):
    return create_state(model, optimizer, seed, (16, 16, 1), averaged)


def make_state(task, seed=0):
    model = task.model.clone(drop_path=0.0)  # which decides nothing here
    return _create_state(model, task.optimizer, task.ema_decay > 0, seed)


def adamw(learning_rate, **fields):
    config = OptimConfig(name="adamw", **fields)
    rate = optax.constant_schedule(learning_rate)
    return optimizers.create_optimizer(optimizers.adamw, rate, config)


class Levels(nn.Module):
    """A small network with statistics: logits from the means of rows and columns."""

    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, images, train=False):
        means = jnp.concatenate([images.mean((1, 3)), images.mean((2, 3))], -1)
        normed = nn.BatchNorm(use_running_average=not train, name="norm")(means)
        return nn.Dense(self.num_classes, name="head")(normed)


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 16, 16, 1), np.uint8)
    return jnp.asarray(images), jnp.asarray(rng.integers(0, CLASSES, 30), jnp.int32)


def assert_trees_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_several_steps_in_one_dispatch_equal_single_steps(split):
    images, labels = split
    task = random_task()
    order = TrainingOrder(labels, BATCH, seed=0)
    rows = np.stack([order(t) for t in range(3)])
    single, losses = make_state(task), []
    for row in rows:
        single, sums = single_step(task, single, images[row], labels[row])
        losses.append(float(sums["loss"]))

    loader = create_loader(Split(*map(np.asarray, split)), order, BATCH)

    def many(state, chunk, count):
        return multi_step.train_steps(task, loader, state, loader.data, chunk, count)

    many = jax.jit(many)
    replicated = NamedSharding(loader.data[0].sharding.mesh, PartitionSpec())
    start = jax.device_put(make_state(task), replicated)  # as a step returns it
    state, sums = many(start, loader.chunk(0, 3), 3)
    assert_trees_close(state.params, single.params, rtol=1e-3, atol=1e-5)
    assert_trees_close(state.average, single.average, rtol=1e-3, atol=1e-5)
    assert int(state.step) == 3
    np.testing.assert_allclose(sums["loss"][:3], losses, rtol=1e-4)
    assert sums["images"].tolist() == [BATCH] * 3 + [0] * (loader.steps - 3)

    # However the steps are cut into dispatches, the same program gives the same bits.
    state_2, _ = many(start, loader.chunk(0, 1), 1)
    state_2, _ = many(state_2, loader.chunk(1, 2), 2)
    assert_trees_close(state_2.params, state.params, rtol=0, atol=0)


def test_micro_batches_give_the_gradient_of_the_whole_batch(split):
    """With frozen statistics batch norm is linear, and gradients simply add up."""
    images, labels = split[0][:BATCH], split[1][:BATCH]
    states = []
    for pieces in (1, 4):
        task = make_task(accumulate=pieces)
        frozen = task.model.copy()
        object.__setattr__(frozen, "apply", _with_running_statistics(task.model))
        task = dataclasses.replace(task, model=frozen)
        state, sums = jax.jit(lambda s, t=task: train_step(t, s, images, labels))(
            make_state(make_task())
        )
        assert float(sums["images"]) == BATCH
        states.append(state)
    before = make_state(make_task()).params
    assert_trees_close(states[1].params, states[0].params, rtol=1e-4, atol=1e-6)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), states[0].params, before
    )
    assert max(jax.tree.leaves(moved)) > 1e-4


def _with_running_statistics(model):
    def apply(variables, images, train, mutable, rngs):
        return model.apply(variables, images), {"batch_stats": variables["batch_stats"]}

    return apply


def test_averages_follow_the_weights(split):
    images, labels = split[0][:BATCH], split[1][:BATCH]
    task = random_task()
    before = make_state(task)
    after, _ = single_step(task, before, images, labels)
    decay = min(0.9, (1 + 1) / (10 + 1))  # at step 1 the average is young
    expected = jax.tree.map(
        lambda old, new: decay * old + (1 - decay) * new,
        before.average,
        after.variables,
    )
    assert_trees_close(after.average, expected, rtol=1e-5, atol=1e-7)
    assert after.evaluated is after.average
    plain = make_state(make_task())
    assert plain.average is None
    assert plain.evaluated == plain.variables


def test_seed_and_step_decide_what_is_random(split):
    images, labels = split[0][:BATCH], split[1][:BATCH]
    task = random_task()

    def step(state):
        return single_step(task, state, images, labels)[1]["loss"]

    state = make_state(task)
    loss = float(step(state))
    assert loss == float(step(state))
    assert loss != float(step(state.replace(step=jnp.int32(1))))
    assert loss != float(step(state.replace(seed=jnp.int32(1))))


def test_evaluation_counts_every_image_once(split):
    images, labels = split
    task = make_task()
    state = make_state(task)
    variables = unpack(state.variables)
    logits = jax.jit(task.model.apply)(variables, (images - 127.0) / 64.0)
    log_p = jax.nn.log_softmax(logits)
    expected = {
        "loss": -float(np.mean(np.asarray(log_p)[np.arange(30), labels])),
        "accuracy": float(np.mean(np.argmax(logits, -1) == labels)),
        "top5": 1.0,  # of three classes
    }
    order = EvaluationOrder(30, 8)
    loader = create_loader(Split(*map(np.asarray, split)), order, 8)
    indices, mask = (
        np.stack([of(t) for t in range(loader.steps)]) for of in (order, order.mask)
    )
    whole = jax.jit(
        lambda *a: multi_step.eval_steps(task, loader, state.variables, loader.data, *a)
    )(loader.chunk(0, 4), mask, 4)
    found = metrics.means(whole)
    assert {n: found[n] for n in expected} == pytest.approx(expected, rel=1e-4)
    step = jax.jit(lambda *batch: eval_step(task, state.variables, *batch))
    parts = [step(images[indices[i]], labels[indices[i]], mask[i]) for i in range(4)]
    found = metrics.means(*parts)
    assert {n: found[n] for n in expected} == pytest.approx(expected, rel=1e-4)


def test_training_batches_are_normalized_and_have_shares_of_classes(split):
    images, labels = split[0][:BATCH], split[1][:BATCH]
    task = make_task(loss=LossConfig(label_smoothing=0.3))
    seen, shares = training_batch(task, jax.random.key(0), images, labels)
    np.testing.assert_allclose(seen, (images - 127.0) / 64.0, rtol=1e-5)
    np.testing.assert_array_equal(shares, np.eye(CLASSES)[labels])


def test_labels_are_smoothed_in_the_loss(split):
    """By a step, as optax smooths them."""
    smoothed = LossConfig(label_smoothing=0.3)
    images, labels = split[0][:BATCH], split[1][:BATCH]
    task = make_task(loss=smoothed)
    found = single_step(task, make_state(task), images, labels)[1]["loss"]
    seen, shares = training_batch(task, jax.random.key(0), images, labels)
    logits, _ = task.model.apply(
        unpack(make_state(task).variables), seen, train=True, mutable=["batch_stats"]
    )
    expected = optax.softmax_cross_entropy(logits, optax.smooth_labels(shares, 0.3))
    assert float(found) == pytest.approx(float(expected.sum()), rel=1e-4)


def test_class_weights_favor_rare_classes():
    labels = np.array([0, 0, 0, 1])
    weights = losses.balanced_weights(labels, 3)
    np.testing.assert_allclose(weights, [4 / 6, 4 / 2, 0])  # of two classes present
    from sklearn.utils.class_weight import compute_class_weight

    theirs = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    np.testing.assert_allclose(weights[:2], theirs)
    assert weights[labels].mean() == pytest.approx(1)


def test_class_weights_multiply_each_class_part_of_the_loss(split):
    images, labels = split[0][:BATCH], split[1][:BATCH]
    weights = jnp.float32([0.5, 2.0, 3.0])

    tasks = [make_task(class_weights=w) for w in (None, weights)]
    state = make_state(tasks[0])
    # Batch norm ties images together, so a class at a time is weighed alone.
    for label in range(CLASSES):
        alike = jnp.full_like(labels, label)
        plain, weighted = (
            float(single_step(task, state, images, alike)[1]["loss"]) for task in tasks
        )
        assert weighted == pytest.approx(plain * float(weights[label]), rel=1e-4)


def test_weight_decay_acts_on_weights_alone():
    optimizer, params = (
        adamw(0.1, weight_decay=0.5, clip_norm=0.0),
        make_state(make_task()).params,
    )
    zeros = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def update(params):
        return optimizer.update(zeros, optimizer.init(params), params)[0]

    leaves = jax.tree_util.tree_leaves_with_path(unpack(params))
    updates = unpack(update(params))
    names = set()
    for (path, old), update in zip(leaves, jax.tree.leaves(updates), strict=True):
        name = path[-1].key
        names.add(name)
        factor = -0.1 * 0.5 if name == "kernel" else 0.0
        np.testing.assert_allclose(update, factor * old, atol=1e-7)
    assert names == {"kernel", "bias", "scale", "bias_table"}


def test_gradients_are_clipped_by_their_global_norm():
    grads, params = {"kernel": jnp.float32([30.0, 40.0])}, {"kernel": jnp.ones(2)}

    def first_moment(clip_norm):
        optimizer = adamw(1.0, weight_decay=0.0, clip_norm=clip_norm)
        _, state = optimizer.update(grads, optimizer.init(params), params)
        return optax.tree.get(state, "mu")["kernel"]

    np.testing.assert_allclose(first_moment(0.5), [0.03, 0.04], rtol=1e-5)
    np.testing.assert_allclose(first_moment(0.0), [3.0, 4.0], rtol=1e-5)


def test_schedule_rises_linearly_and_falls_as_a_cosine():
    lengths = schedules.Lengths(warmup=10, total=110)
    rate = schedules.cosine(OptimConfig(learning_rate=1.0), lengths)
    assert float(rate(0)) == 0.0
    assert float(rate(5)) == pytest.approx(0.5)
    assert float(rate(10)) == pytest.approx(1.0)
    assert float(rate(60)) == pytest.approx(0.5)
    assert float(rate(110)) == pytest.approx(0.0, abs=1e-7)


def test_micro_batches_all_move_the_running_statistics(split):
    images, labels = split[0][:BATCH], split[1][:BATCH]
    task = dataclasses.replace(make_task(accumulate=2), model=Levels())
    before = create_state(task.model, task.optimizer, 0, (16, 16, 1), False)
    after, _ = single_step(task, before, images, labels)
    variables = unpack(before.variables)
    for part in (images[0::2], images[1::2]):
        seen = (part - 127.0) / 64.0
        _, updated = task.model.apply(
            variables, seen, train=True, mutable=["batch_stats"]
        )
        variables |= updated
    expected = variables["batch_stats"]
    assert_trees_close(unpack(after.batch_stats), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_steps_see_of_an_image_what_its_fit_says(split, fit):
    images, labels = split[0][:BATCH], split[1][:BATCH]
    extents = np.int32([[16, 16], [8, 16], [16, 10], [12, 9]] * 2)
    task = dataclasses.replace(make_task(fit=fit), model=Levels())
    expected = normalize(to_float(images, (16, 16), extents, fit), 127.0, 64.0)
    seen, _ = training_batch(task, jax.random.key(0), images, labels, extents)
    np.testing.assert_allclose(seen, expected, atol=1e-4)

    arrays = map(np.asarray, (images, labels, extents))
    order = EvaluationOrder(BATCH, BATCH)
    loader = create_loader(Split(*arrays), order, BATCH)
    variables = task.model.init(jax.random.key(0), expected)
    network, mask = task.network, np.ones((loader.steps, BATCH), np.float32)
    found = jax.jit(
        lambda *a: multi_step.eval_steps(network, loader, variables, loader.data, *a)
    )(loader.chunk(0, 1), mask, 1)
    logits = task.model.apply(variables, expected)
    sums = metrics.evaluation_sums(logits, labels, mask[0], task.loss)
    assert metrics.means(found)["loss"] == pytest.approx(
        metrics.means(sums)["loss"], rel=1e-5
    )


def test_a_run_evaluates_the_network_that_it_trains():
    task = make_task(fit="pad", loss=LossConfig(name="focal"))
    for field in dataclasses.fields(Network):
        if field.name != "views":  # of predictions alone
            assert getattr(task.network, field.name) is getattr(task, field.name)
