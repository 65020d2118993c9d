"""Faults of training: a loss that is not finite, and faults that tests inject."""

import os
import signal

import numpy as np

from hybrid_jax.data.sampler import TrainingOrder
from hybrid_jax.errors import UserError, plural
from hybrid_jax.training.step import Task


class Diverged(UserError):
    """The error of a loss that is not finite.

    Attributes:
      what: the loss and its step, in words.
      step: the first step with such a loss, counted from 1.
      causes: steps, counted from 0, one of whose batches is to blame.
    """

    code = 3

    def __init__(self, loss: float, step: int, causes: range, way_out: str) -> None:
        """Compose the error message.

        Args:
          loss: the first loss that is not finite.
          step: its step, counted from 1.
          causes: see the attribute.
          way_out: what the user can change.
        """
        self.what, self.causes = f"the loss is {loss} at step {step}", causes
        self.step = step
        super().__init__(f"{self.what}: {way_out}")


def check_fault(text: str, steps: int) -> None:
    """Refuse a fault that comes with a batch after the run's last step.

    Args:
      text: value of `config.debug.inject`.
      steps: number of steps of the run.

    Raises:
      UserError: names the field.
    """
    if text and _batch(text) > steps:
        raise UserError(
            f"config.debug.inject={text}: the run has only {plural(steps, 'step')}, so "
            "this fault would never come: give a smaller number"
        )


def _batch(text: str) -> int:
    """Return the number of a fault's batch, counted from 1."""
    return int(text.partition("@")[2])


class Fault:
    """A fault that comes with one batch, from `config.debug.inject`.

    `nan@30` makes the images of the 30th batch NaN. `term@30` sends SIGTERM when that
    batch is dispatched.
    """

    def __init__(self, text: str, order: TrainingOrder) -> None:
        """Parse a fault.

        Args:
          text: value of the field; empty injects nothing.
          order: which batch comes at which step.
        """
        self._kind = text.partition("@")[0]
        self._batch = _batch(text) - 1 if text else None
        self._order = order

    def limit_steps(self, step: int, count: int) -> int:
        """Return how many of the next `count` steps to dispatch at once.

        A dispatch ends before the faulty batch, with which the next one begins.
        """
        if self._batch is None:
            return count
        batches = [self._order.batch(step + i) for i in range(count)]
        return max(batches.index(self._batch), 1) if self._batch in batches else count

    def apply(self, task: Task, step: int) -> Task:
        """Inject the fault if its batch is the next one.

        Args:
          task: constants of the steps.
          step: first step of a dispatch.

        Returns:
          The constants for this dispatch.
        """
        if self._batch is None or self._order.batch(step) != self._batch:
            return task
        if self._kind == "term":
            os.kill(os.getpid(), signal.SIGTERM)
            return task
        return task.replace(mean=np.full_like(task.mean, np.nan))
