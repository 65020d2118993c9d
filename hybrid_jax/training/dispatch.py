"""Many steps in one call of the device, on data that lies there.

A call takes the indices of up to `STEPS` batches and how many of them to run, so one
compiled program serves any number of steps. The host meanwhile draws the next indices.
"""

import collections
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hybrid_jax.training import metrics
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task, eval_step, train_step

STEPS = 64  # at most, in one call
SECONDS_A_CALL = 0.5  # after which the host hears how far the device is


def train_steps(
    task: Task,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    indices: jax.Array,
    count: jax.Array,
) -> tuple[TrainState, metrics.Sums]:
    """The first `count` of the batches `indices` `[STEPS, B]`, one step each.

    Args:
      task: the constants.
      state: donate it.
      images: the training split, uint8 `[N, h, w, C]`.
      labels: int32 `[N]`.
      indices: int32, the images of each batch.
      count: int32, from 1 to `STEPS`.

    Returns:
      The state after the last step, and each step's summed metrics, `[STEPS]` arrays.
      The host adds them up: a mean must not depend on how steps were dispatched.
    """

    def one(i, carry):
        state, rows = carry
        batch = indices[i]
        state, sums = train_step(task, state, images[batch], labels[batch])
        return state, jax.tree.map(lambda row, new: row.at[i].set(new), rows, sums)

    rows = metrics.zeros(metrics.TRAINING, (STEPS,))
    return lax.fori_loop(0, count, one, (state, rows))


def eval_steps(
    task: Task,
    variables: dict,
    images: jax.Array,
    labels: jax.Array,
    indices: jax.Array,
    mask: jax.Array,
    count: jax.Array,
) -> metrics.Sums:
    """Summed metrics of the first `count` batches of `indices`, `mask` `[STEPS, B]`."""

    def one(i, total):
        batch = indices[i]
        sums = eval_step(task, variables, images[batch], labels[batch], mask[i])
        return jax.tree.map(jnp.add, total, sums)

    return lax.fori_loop(0, count, one, metrics.zeros(metrics.EVALUATION))


def pad_steps(rows: np.ndarray) -> np.ndarray:
    """Rows `[count, B]` filled up to `[STEPS, B]`; the rest is never run."""
    missing = STEPS - len(rows)
    return np.pad(rows, ((0, missing), (0, 0)))


class Pace:
    """How many steps to dispatch at once, so that each call takes about half a second.

    Two calls are in flight at most: the device never waits for the host, and the host
    knows how far the device is.
    """

    def __init__(self):
        self.steps = 1
        self.restart()

    def restart(self) -> None:
        """Forgets the calls so far, after the host has waited for all of them."""
        self._in_flight = collections.deque()
        self._last = None

    def sent(self, count: int, sums: metrics.Sums) -> None:
        """Takes note of a call, and waits for the one before it."""
        self._in_flight.append((count, sums))
        if len(self._in_flight) < 2:
            return
        count, sums = self._in_flight.popleft()
        jax.block_until_ready(sums)
        now = time.perf_counter()
        if self._last is not None:
            steps = int(SECONDS_A_CALL * count / max(now - self._last, 1e-6))
            self.steps = min(max(steps, 1), STEPS)
        self._last = now
