"""The host's order of work: what it dispatches, what it waits for, what it reads."""

import itertools

import numpy as np
import pytest

from hybrid_jax.engine.metric_window import Window, Windows
from hybrid_jax.training.multi_step import Pace


class Number:
    """A metric on a device that notes when it is waited for, and when it is read."""

    def __init__(self, events, step, value):
        self._events, self._step, self._value = events, step, value

    def block_until_ready(self):
        self._events.append(("wait", self._step))
        return self

    def __array__(self, dtype=None, copy=None):
        self._events.append(("read", self._step))
        return np.float32(self._value)


class FakeTrainer:
    """Adds up the steps; step `t` has the loss `t` and one image."""

    def __init__(self, events):
        self._events, self.pace = events, Pace(2)

    def count(self, step, last):
        return min(self.pace.steps, last - step)

    def __call__(self, task, state, step, count):
        self._events.append(("dispatch", step))
        loss = sum(range(step, step + count))
        sums = {"images": np.float32(count), "loss": Number(self._events, step, loss)}
        return state + count, sums


@pytest.fixture
def run(monkeypatch):
    events, read = [], []
    trainer = FakeTrainer(events)
    # However long a call took, two steps are dispatched in the next.
    monkeypatch.setattr(trainer.pace, "steps", 2)
    monkeypatch.setattr("hybrid_jax.training.multi_step.SECONDS_A_CALL", 1e9)
    windows = Windows(
        *(None, trainer, 0, 0, {}, lambda count: count),
        lambda step: events.append(("told", step)),
        lambda window, means, seconds: read.append((window.first, window.last, means)),
    )
    return events, read, windows


def test_a_window_is_read_when_the_next_steps_are_under_way(run):
    events, read, windows = run
    windows.start()
    windows.advance(4)
    assert read == []
    windows.advance(7)
    assert [row[:2] for row in read] == [(0, 4)]
    windows.finish()
    windows.finish()  # nothing is read twice
    assert windows.state == windows.step == 7
    assert read == [(0, 4, {"loss": 1.5}), (4, 7, {"loss": 5.0})]

    at = {event: i for i, event in reversed(list(enumerate(events)))}
    for step in (0, 2):  # of the first window
        assert at["dispatch", 4] < at["read", step] < at["dispatch", 6]
    # The device always has a call to do: one is waited for behind the next's dispatch.
    starts = [step for what, step in events if what == "dispatch"]
    assert starts == [0, 2, 4, 6]
    for step, following in itertools.pairwise(starts):
        assert at["dispatch", following] < at["wait", step]


def test_the_last_window_is_left_until_it_is_asked_for(run):
    """So that an evaluation can be dispatched before the host waits."""
    events, read, windows = run
    windows.start()
    windows.advance(2)
    assert not read
    assert {what for what, _ in events} == {"dispatch", "told"}
    windows.finish()
    assert read == [(0, 2, {"loss": 0.5})]


def test_an_error_of_the_reader_ends_the_training(run):
    _, _, windows = run

    def diverged(window, means, seconds):
        raise ValueError(means["loss"])

    windows._read = diverged
    windows.start()
    windows.advance(2)
    with pytest.raises(ValueError, match=r"0\.5"):
        windows.advance(8)


def test_a_bad_loss_is_found_where_it_is():
    window = Window(10, 16, {"images": 4.0, "loss": 1.0})
    for losses in ([1, 2, 0, 0], [3, np.nan, np.inf, 0]):
        images = np.array([4, 4, 4, 0] if losses[2] else [4, 4, 0, 0], np.float32)
        window.sums.append({"images": images, "loss": np.array(losses, np.float32)})
    assert window.first_bad() == 14  # steps 11 and 12, then 13 and 14


def test_a_window_that_is_left_in_part_is_read_as_a_whole_later(run):
    _, read, windows = run

    def agreed(count):
        if windows.step == 6:
            raise KeyboardInterrupt
        return count

    windows._agreed = agreed
    windows.start()
    windows.advance(4)
    with pytest.raises(KeyboardInterrupt):
        windows.advance(8)
    windows.finish()
    unfinished = windows.unfinished()
    assert unfinished == {"images": 2.0, "loss": 4.0 + 5.0}

    later = Windows(
        *(None, windows._trainer, windows.state, windows.step, unfinished),
        *(lambda count: count, lambda step: None, windows._read),
    )
    later.start()
    later.advance(8)
    later.finish()
    assert later.unfinished() == {}
    assert read == [(0, 4, {"loss": 1.5}), (6, 8, {"loss": 5.5})]
