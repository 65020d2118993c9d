"""Many steps in one call of the device.

A call takes a loader's chunk, of a fixed number of batches, and how many of them to
run, so one compiled program serves any number of steps. Meanwhile the host loads the
next chunk.
"""

import collections
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.data.loader import Loader
from hybrid_jax.ops.batch_axis import current_axis
from hybrid_jax.training import metrics
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Network, Task, eval_step, train_step

SECONDS_A_CALL = 0.5  # aimed at; the host then learns how far the device is


def train_steps(
    task: Task,
    loader: Loader,
    state: TrainState,
    data: Any,
    chunk: Any,
    count: jax.Array,
) -> tuple[TrainState, metrics.Sums]:
    """Run the first `count` steps of a chunk.

    Args:
      task: constants of the training step.
      loader: picks batches.
      state: before the steps; to be donated by the caller.
      data: the loader's arrays of the whole split, or nothing.
      chunk: the loader's arrays of these steps.
      count: int32, from 1 to the loader's `steps`.

    Returns:
      The state after the last step, and the summed metrics of each step, arrays as long
      as a chunk. The host adds them up: a mean must not depend on how steps were
      dispatched.
    """

    def run_step(i: jax.Array, carry: tuple) -> tuple:
        state, rows = carry
        state, sums = train_step(task, state, *loader.pick(data, chunk, i))
        return state, jax.tree.map(lambda row, new: row.at[i].set(new), rows, sums)

    classes = task.model.num_classes
    rows = metrics.zeros(classes, training=True, steps=(loader.steps,))
    return lax.fori_loop(0, count, run_step, (state, rows))


def eval_steps(
    network: Network,
    loader: Loader,
    variables: dict,
    data: Any,
    chunk: Any,
    mask: jax.Array,
    count: jax.Array,
) -> metrics.Sums:
    """Return the summed metrics of the first `count` batches of a chunk.

    Args:
      network: the model, and how images come to it.
      loader: picks batches.
      variables: of the model, packed or not.
      data: the loader's arrays of the whole split, or nothing.
      chunk: the loader's arrays of these batches.
      mask: float32 `[steps, B]`, 0 for padding.
      count: int32, from 1 to the loader's `steps`.
    """

    def add_batch(i: jax.Array, total: metrics.Sums) -> metrics.Sums:
        images, labels, *extents = loader.pick(data, chunk, i)
        used = current_axis().all_gather(mask[i])
        sums = eval_step(network, variables, images, labels, used, *extents)
        return jax.tree.map(jnp.add, total, sums)

    zeros = metrics.zeros(network.model.num_classes, training=False)
    return lax.fori_loop(0, count, add_batch, zeros)


class Pace:
    """The number of steps to dispatch, so that a call takes about half a second.

    Two calls are in flight at most: the device never waits for the host, and the host
    knows how far the device is.

    Attributes:
      steps: number of steps of the next call.
    """

    def __init__(self, most: int):
        """Begin with 1 step; never dispatch more than `most` at once."""
        self.steps, self._most = 1, most
        self.restart()

    def restart(self) -> None:
        """Forget the calls so far, after the host has waited for all of them."""
        self._in_flight: collections.deque[tuple[int, Any]] = collections.deque()
        self._last: float | None = None

    def sent(self, count: int, sums: metrics.Sums) -> None:
        """Record a call of `count` steps, and wait for the call before it."""
        self._in_flight.append((count, sums))
        if len(self._in_flight) < 2:
            return
        count, sums = self._in_flight.popleft()
        jax.block_until_ready(sums)
        now = time.perf_counter()
        if self._last is not None:
            steps = int(SECONDS_A_CALL * count / max(now - self._last, 1e-6))
            self.steps = min(max(steps, 1), self._most)
        self._last = now
