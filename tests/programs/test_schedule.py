"""Lengths in steps: of a run, its warm-up and the time between evaluations."""

import dataclasses

import numpy as np
import pytest

from hybrid_jax.config.resolve import resolve
from hybrid_jax.config.schema import Config
from hybrid_jax.errors import UserError
from hybrid_jax.programs.schedule import (
    Plan,
    check_lookahead,
    learning_rates,
    schedule_lengths,
)
from hybrid_jax.training.schedules import SCHEDULES

IMAGES = 500


def config(**fields) -> Config:
    flat = {
        "train.steps": 100,
        "train.batch_size": 50,
        "train.eval_every_steps": 30,
        "optim.warmup_epochs": 0.0,
        "optim.warmup_steps": 10,
    }
    return Config.from_flat(flat | {k.replace("__", "."): v for k, v in fields.items()})


def evaluations(plan: Plan) -> list[int]:
    return [step for step in range(plan.total_steps + 1) if plan.is_evaluated(step)]


@pytest.mark.parametrize(
    ("epochs", "images", "batch_size", "steps"),
    [
        (2.2, 45_000, 100, 990),
        (1.1, 100, 10, 11),
        (1.11, 100, 10, 12),
        (3, 101, 10, 31),
    ],
)
def test_steps_complete_the_epochs_and_no_more(epochs, images, batch_size, steps):
    """A warm-up and a decay may end within an epoch, a run may not."""
    train = dataclasses.replace(config().train, steps=10**6, batch_size=batch_size)
    assert Plan(train, images).step_of(epochs) == steps
    if epochs == int(epochs):
        whole = dataclasses.replace(train, steps=0, epochs=int(epochs))
        assert Plan(whole, images).total_steps == steps


@pytest.mark.parametrize("fields", [{"steps": 2**30}, {"steps": 0, "epochs": 2**30}])
def test_a_run_of_too_many_steps_is_refused(fields):
    train = dataclasses.replace(config().train, **fields)
    (name,) = (name for name, value in fields.items() if value)
    with pytest.raises(UserError, match=rf"^config\.train\.{name}=1073741824 makes "):
        Plan(train, IMAGES)


def test_slow_weights_that_would_never_change_are_refused():
    longer = config(optim__lookahead_steps=101)
    with pytest.raises(UserError, match="lookahead_steps=101 is more than the run's"):
        check_lookahead(longer, Plan(longer.train, IMAGES))
    fits = config(optim__lookahead_steps=100)
    assert check_lookahead(fits, Plan(fits.train, IMAGES)) is None


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("batch_size", [7, 50, 64, 499, 500, 501, 1700])
def test_an_evaluation_follows_the_step_that_completes_its_epoch(batch_size, every):
    fields = {"train__steps": 0, "train__epochs": 10, "train__eval_every_steps": 0}
    run = config(**fields, train__batch_size=batch_size, train__eval_every=every)
    plan = Plan(run.train, IMAGES)
    due = {plan.step_of(epoch) for epoch in range(every, 10, every)} - {0}
    assert evaluations(plan) == sorted(due | {plan.total_steps})
    assert plan.count_evaluations() == len(due | {plan.total_steps})


@pytest.mark.parametrize("images", [50, 500, 50_000])
def test_steps_do_not_depend_on_the_number_of_images(images):
    plan = Plan(config().train, images)
    assert plan.total_steps == 100
    assert evaluations(plan) == [30, 60, 90, 100]
    assert plan.count_evaluations() == 4
    assert plan.epochs == pytest.approx(100 * 50 / images)
    assert plan.epoch_of(100) == pytest.approx(plan.epochs)


def test_steps_and_the_same_length_in_epochs_are_one_plan():
    in_epochs = config(train__steps=0, train__epochs=10, train__eval_every_steps=0)
    in_epochs = dataclasses.replace(
        in_epochs, train=dataclasses.replace(in_epochs.train, eval_every=3)
    )
    by_epochs, by_steps = Plan(in_epochs.train, IMAGES), Plan(config().train, IMAGES)
    assert by_epochs.total_steps == by_steps.total_steps
    assert evaluations(by_epochs) == evaluations(by_steps)
    warmup = config(optim__warmup_steps=0, optim__warmup_epochs=1.0)
    np.testing.assert_array_equal(
        learning_rates(warmup, by_steps), learning_rates(config(), by_steps)
    )


@pytest.mark.parametrize("name", [*SCHEDULES])
def test_a_run_knows_the_rates_of_all_steps(name):
    """Of each row, also of those whose schedule takes one step at a time."""
    chosen = config(optim__schedule=name, optim__decay_epochs=(5,) * (name == "step"))
    plan = Plan(chosen.train, IMAGES)
    schedule = SCHEDULES[name](chosen.optim, schedule_lengths(chosen, plan))
    expected = [float(schedule(step)) for step in range(plan.total_steps)]
    found = learning_rates(chosen, plan)
    np.testing.assert_allclose(found[: plan.total_steps], expected, rtol=1e-5)
    assert (found[plan.total_steps :] == found[plan.total_steps - 1]).all()


@pytest.mark.parametrize(("steps", "length"), [(100, 1024), (1024, 1024), (1025, 2048)])
def test_runs_of_similar_lengths_have_tables_of_one_length(steps, length):
    chosen = config(train__steps=steps)
    assert learning_rates(chosen, Plan(chosen.train, IMAGES)).shape == (length,)


def test_warmup_steps_that_take_the_whole_run_are_refused():
    with pytest.raises(UserError, match=r"warmup_steps=100 is not below config"):
        resolve(config(optim__warmup_steps=100))
    with pytest.raises(UserError, match=r"with --config\.optim\.warmup_steps=10"):
        wrong = config(optim__warmup_steps=100)
        schedule_lengths(wrong, Plan(wrong.train, IMAGES))


def test_smaller_batches_are_advised_only_where_they_make_more_steps():
    few = config(train__steps=5, optim__warmup_steps=0, optim__warmup_epochs=5.0)
    with pytest.raises(UserError, match=r"5 steps: shorten it, with") as error:
        schedule_lengths(few, Plan(few.train, IMAGES))
    assert "batch_size" not in str(error.value)
    in_epochs = config(train__steps=0, train__epochs=1)
    with pytest.raises(UserError, match=r"lower config\.train\.batch_size \(50\) or"):
        schedule_lengths(in_epochs, Plan(in_epochs.train, IMAGES))
    smaller = config(train__steps=0, train__epochs=1, train__batch_size=25)
    assert schedule_lengths(smaller, Plan(smaller.train, IMAGES)).warmup == 10


def test_a_decay_beyond_the_last_step_is_refused():
    late = config(optim__schedule="step", optim__decay_epochs=(5.0, 12.0))
    with pytest.raises(UserError, match=r"has 12\.0, .* epoch 1, .* and 10, "):
        schedule_lengths(late, Plan(late.train, IMAGES))
