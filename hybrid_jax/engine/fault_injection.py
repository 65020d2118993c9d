"""What goes wrong in training, on its own or put in to see what a run makes of it."""

import os
import signal

import numpy as np

from hybrid_jax.data.sampler import TrainingOrder
from hybrid_jax.errors import UserError
from hybrid_jax.training.step import Task


class Diverged(UserError):
    """A loss is not finite.

    Attributes:
      what: the loss and where, in words.
      causes: steps, counted from 0, one of whose batches is to blame.
    """

    code = 3

    def __init__(self, loss: float, step: int, causes: range, way_out: str):
        """`step` is the first one with such a loss, counted from 1."""
        self.what, self.causes = f"the loss is {loss} at step {step}", causes
        super().__init__(f"{self.what}: {way_out}")


class Fault:
    """A fault that comes with a batch, of `config.debug.inject`.

    `nan@30` spoils the images of the 30th batch; `term@30` sends SIGTERM when it is
    dispatched.
    """

    def __init__(self, text: str, order: TrainingOrder):
        self._kind, _, number = text.partition("@")
        self._batch = int(number) - 1 if text else None
        self._order = order

    def limited(self, step: int, count: int) -> int:
        """How many of the next steps to dispatch at once: the batch comes alone."""
        if self._batch is None:
            return count
        batches = [self._order.batch(step + i) for i in range(count)]
        return max(batches.index(self._batch), 1) if self._batch in batches else count

    def strike(self, task: Task, step: int) -> Task:
        """The constants that a dispatch from a step is given."""
        if self._batch is None or self._order.batch(step) != self._batch:
            return task
        if self._kind == "term":
            os.kill(os.getpid(), signal.SIGTERM)
            return task
        return task.replace(mean=np.full_like(task.mean, np.nan))
