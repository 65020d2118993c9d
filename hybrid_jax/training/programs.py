"""The compiled programs of a run, and the time it took to compile them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrid_jax.data import Split, Splits
from hybrid_jax.data.loaders import create_loader
from hybrid_jax.data.order import EvaluationOrder, TrainingOrder
from hybrid_jax.runtime import jit_once
from hybrid_jax.training import dispatch, metrics
from hybrid_jax.training.build import initial_state
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task

_COUNT = jax.ShapeDtypeStruct((), jnp.int32)  # of the steps of a dispatch


class Trainer:
    """Training steps, several in one dispatch, as many as its `pace` says."""

    def __init__(self, task: Task, state, split: Split, config: ConfigDict):
        batch_size = config.train.batch_size
        order = TrainingOrder(
            split.labels, batch_size, config.seed, config.train.sampling
        )
        self._loader = create_loader(split, order, batch_size, config.data.workers)
        self.pace = dispatch.Pace(self._loader.steps)
        self._run = (
            jax.jit(partial(dispatch.train_steps, task, self._loader), donate_argnums=0)
            .lower(state, self._loader.data, self._loader.shapes, _COUNT)
            .compile()
        )

    def __call__(
        self, state: TrainState, step: int, count: int
    ) -> tuple[TrainState, metrics.Sums]:
        """Steps `step` to `step + count` from a state, which is used up."""
        chunk = self._loader.chunk(step, count)
        return self._run(state, self._loader.data, chunk, np.int32(count))


class Evaluator:
    """The metrics of a whole split, every image counted once."""

    def __init__(self, task: Task, variables, split: Split, config: ConfigDict):
        batch_size = min(config.train.eval_batch_size, len(split))
        self._order = EvaluationOrder(len(split), batch_size)
        self._next = 0
        self._loader = create_loader(
            split, self._order, batch_size, config.data.workers
        )
        mask = jax.ShapeDtypeStruct((self._loader.steps, batch_size), jnp.float32)
        self._run = (
            jax.jit(partial(dispatch.eval_steps, task, self._loader))
            .lower(variables, self._loader.data, self._loader.shapes, mask, _COUNT)
            .compile()
        )

    def __call__(self, variables: dict) -> dict[str, float]:
        """Loss, accuracy and top-5 accuracy of a network's variables."""
        parts, steps = [], self._loader.steps
        end = self._next + len(self._order)
        for first in range(self._next, end, steps):
            count = min(steps, end - first)
            mask = np.stack([self._order.mask(first + i) for i in range(steps)])
            part = self._run(
                variables,
                self._loader.data,
                self._loader.chunk(first, count),
                mask,
                np.int32(count),
            )
            parts.append(part)
        self._next = end
        return metrics.means(*parts)


class Programs(NamedTuple):
    """What a run calls, and the seconds it took to compile.

    `initialise` is the state at step 0 of a seed; None where a run continues.
    """

    trainer: Trainer
    evaluator: Evaluator
    initialise: Callable[[np.int32], TrainState] | None
    seconds: float


def compile_programs(
    task: Task, state: TrainState, splits: Splits, config: ConfigDict, fresh: bool
) -> Programs:
    """Compiles all of a run's programs side by side.

    Args:
      task: the constants of the steps.
      state: shapes of the state.
      splits: put on the device, or streamed to it.
      config: for the order of the data, and the batch sizes.
      fresh: whether the run begins at step 0.
    """
    start = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        trainer = pool.submit(Trainer, task, state, splits.train, config)
        evaluator = pool.submit(Evaluator, task, state.evaluated, splits.test, config)
        create = jit_once(partial(initial_state, task, splits.channels))
        initialise = fresh and pool.submit(lambda: create.lower(np.int32(0)).compile())
        return Programs(
            trainer.result(),
            evaluator.result(),
            initialise.result() if fresh else None,
            time.perf_counter() - start,
        )
