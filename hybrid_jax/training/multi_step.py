"""Many steps in one call of the device.

A call takes a loader's chunk, of a fixed number of batches, and how many of them to
run, so one compiled program serves any number of steps. The host meanwhile gets the
next.
"""

import collections
import time

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.data.loader import Loader
from hybrid_jax.ops.batch_axis import current_axis
from hybrid_jax.training import metrics
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Network, Task, eval_step, train_step

SECONDS_A_CALL = 0.5  # after which the host hears how far the device is


def train_steps(
    task: Task, loader: Loader, state: TrainState, data, chunk, count: jax.Array
) -> tuple[TrainState, metrics.Sums]:
    """The first `count` steps of a chunk.

    Args:
      task: the constants.
      loader: picks batches.
      state: donate it.
      data, chunk: of the loader.
      count: int32, from 1 to the loader's `steps`.

    Returns:
      The state after the last step, and each step's summed metrics, arrays as long as a
      chunk. The host adds them up: a mean must not depend on how steps were dispatched.
    """

    def one(i, carry):
        state, rows = carry
        state, sums = train_step(task, state, *loader.pick(data, chunk, i))
        return state, jax.tree.map(lambda row, new: row.at[i].set(new), rows, sums)

    classes = task.model.num_classes
    rows = metrics.zeros(classes, training=True, steps=(loader.steps,))
    return lax.fori_loop(0, count, one, (state, rows))


def eval_steps(
    network: Network,
    loader: Loader,
    variables: dict,
    data,
    chunk,
    mask: jax.Array,
    count: jax.Array,
) -> metrics.Sums:
    """Summed metrics of the first `count` batches of a chunk; `mask` `[steps, B]`."""

    def one(i, total):
        images, labels, *extents = loader.pick(data, chunk, i)
        used = current_axis().all_gather(mask[i])
        sums = eval_step(network, variables, images, labels, used, *extents)
        return jax.tree.map(jnp.add, total, sums)

    zeros = metrics.zeros(network.model.num_classes, training=False)
    return lax.fori_loop(0, count, one, zeros)


class Pace:
    """How many steps to dispatch at once, so that each call takes about half a second.

    Two calls are in flight at most: the device never waits for the host, and the host
    knows how far the device is.
    """

    def __init__(self, most: int):
        """`most` steps are dispatched at once."""
        self.steps, self._most = 1, most
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
            self.steps = min(max(steps, 1), self._most)
        self._last = now
