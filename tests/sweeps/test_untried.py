"""No two trials of a search are equal, whoever draws them and however they ended."""

import contextlib

import optuna
import pytest
from optuna.trial import TrialState

from hybrid_jax.config.files import load_config
from hybrid_jax.config.resolve import resolve
from hybrid_jax.sweeps.search import create_search
from hybrid_jax.sweeps.storage import Store
from hybrid_jax.sweeps.untried import draw_untried
from hybrid_jax.sweeps.worker import Worker
from tests.commands import ROOT

TINY = str(ROOT / "tests" / "sweeps" / "tiny.py")
SPACE = {"train.batch_size": "4:5", "train.sampling": "uniform,balanced"}


def searches(sampler, space=SPACE):
    return create_search(resolve(load_config(TINY, {})), space, sampler=sampler)


def drawn(search, folder, count):
    """Values of new trials, each of another worker."""
    found = []
    for number in range(count):
        store = Store(search, folder)
        with contextlib.ExitStack() as held:
            trial = Worker(search, store, folder, count)._claim(held)
            found.append(tuple(trial.params.values()))
            # A trial goes on, ends with a result, or fails.
            if number % 3 == 1:
                store.study.tell(trial, 0.5)
            elif number % 3 == 2:
                store.study.tell(trial, state=TrialState.FAIL)
    return found


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_every_combination_is_tried_once(sampler, tmp_path, digits, monkeypatch):
    monkeypatch.setattr(Worker, "_take_over", lambda *_: None)  # none of them is dead
    found = drawn(searches(sampler), tmp_path, 4)
    assert len({*found}) == 4


def test_combinations_are_drawn_in_another_order_than_the_grid(digits, tmp_path):
    search = searches("random", {"train.batch_size": "1:1000000"})
    study = Store(search, tmp_path).study
    values = draw_untried(search, study)
    assert values == draw_untried(search, study)
    assert values["train.batch_size"] > 100


def test_a_sampler_that_repeats_itself_leads_to_the_next_combination(
    digits, tmp_path, monkeypatch
):
    """Also in a grid that is far too large to be listed."""
    space = {"train.batch_size": "1:1000000", "train.steps": "1:1000000"}
    search = searches("tpe", space)
    study = Store(search, tmp_path).study
    fixed = optuna.samplers.PartialFixedSampler(
        {"train.batch_size": 1, "train.steps": 1}, optuna.samplers.RandomSampler(0)
    )
    monkeypatch.setattr("hybrid_jax.sweeps.samplers.create_sampler", lambda *_: fixed)
    found = []
    for _ in range(3):
        found.append(draw_untried(search, study))
        study.enqueue_trial(found[-1])
    assert [tuple(values.values()) for values in found] == [(1, 1), (1, 2), (1, 3)]


def test_a_worker_that_dies_before_it_begins_loses_no_combination(tmp_path, digits):
    search = searches("tpe")
    store = Store(search, tmp_path)
    values = draw_untried(search, store.study)
    store.study.enqueue_trial(values)
    with contextlib.ExitStack() as held:
        assert Worker(search, store, tmp_path, 4)._claim(held).params == values
    assert draw_untried(search, store.study) != values
