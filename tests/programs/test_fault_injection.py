"""Faults that are put in, and batches that are left out."""

import signal

import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.data.sampler import TrainingOrder
from hybrid_jax.errors import UserError
from hybrid_jax.programs.fault_injection import Fault, check_fault


class Task:
    """As much of a task as a fault knows."""

    def __init__(self, mean=(1.0, 2.0)):
        self.mean = jnp.asarray(mean)

    def replace(self, mean):
        return Task(mean)


@pytest.fixture
def order():
    return TrainingOrder(np.zeros(10), batch_size=2, seed=0)


def test_batches_that_are_left_out_let_others_move_up(order):
    before = [order(step).tolist() for step in range(8)]
    order.skipped = (5, 2, 3)
    kept = [before[i] for i in (0, 1, 4, 6, 7)]
    assert [order(step).tolist() for step in range(5)] == kept
    assert [order.batch(step) for step in range(5)] == [0, 1, 4, 6, 7]


def test_a_fault_comes_with_its_batch_alone(order):
    fault, task = Fault("nan@4", order), Task()
    assert [fault.limit_steps(step, 8) for step in range(5)] == [3, 2, 1, 1, 8]
    assert fault.apply(task, 2) is task
    assert np.isnan(fault.apply(task, 3).mean).all()
    order.skipped = (2, 3)
    assert [fault.limit_steps(step, 8) for step in range(5)] == [8] * 5


def test_a_signal_comes_with_its_batch(order, monkeypatch):
    sent, task = [], Task()
    monkeypatch.setattr("os.kill", lambda process, number: sent.append(number))
    fault = Fault("term@4", order)
    assert fault.apply(task, 2) is fault.apply(task, 3) is task
    assert sent == [signal.SIGTERM]


def test_a_fault_after_the_last_step_is_refused():
    for text in "", "nan@20", "term@1":
        check_fault(text, steps=20)
    with pytest.raises(UserError, match=r"inject=nan@21: the run has only 20 steps"):
        check_fault("nan@21", steps=20)


def test_no_fault_is_put_in_unasked(order):
    fault, task = Fault("", order), Task()
    assert fault.limit_steps(0, 8) == 8
    assert fault.apply(task, 0) is task
