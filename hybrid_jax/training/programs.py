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

from hybrid_jax.data import Splits
from hybrid_jax.data.order import batch_indices, padded_batches
from hybrid_jax.data.resident import Resident
from hybrid_jax.runtime import jit_once
from hybrid_jax.training import dispatch, metrics
from hybrid_jax.training.build import initial_state
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task


class Trainer:
    """Training steps on a resident split, several in one dispatch."""

    def __init__(self, task: Task, state, split: Resident, config: ConfigDict):
        self._split, self._seed = split, config.seed
        self._batch_size = batch_size = config.train.batch_size
        indices = jax.ShapeDtypeStruct((dispatch.STEPS, batch_size), jnp.int32)
        count = jax.ShapeDtypeStruct((), jnp.int32)
        self._run = (
            jax.jit(partial(dispatch.train_steps, task), donate_argnums=0)
            .lower(state, split.images, split.labels, indices, count)
            .compile()
        )

    def __call__(
        self, state: TrainState, step: int, count: int
    ) -> tuple[TrainState, metrics.Sums]:
        """Steps `step` to `step + count` from a state, which is used up."""
        rows = [
            batch_indices(self._seed, t, len(self._split), self._batch_size)
            for t in range(step, step + count)
        ]
        indices = dispatch.pad_steps(np.stack(rows))
        return self._run(
            state, self._split.images, self._split.labels, indices, np.int32(count)
        )


class Evaluator:
    """The metrics of a whole resident split, every image counted once."""

    def __init__(self, task: Task, variables, split: Resident, config: ConfigDict):
        self._split = split
        batch_size = min(config.train.eval_batch_size, len(split))
        self._indices, self._mask = padded_batches(len(split), batch_size)
        shape = (dispatch.STEPS, batch_size)
        self._run = (
            jax.jit(partial(dispatch.eval_steps, task))
            .lower(
                variables,
                split.images,
                split.labels,
                jax.ShapeDtypeStruct(shape, jnp.int32),
                jax.ShapeDtypeStruct(shape, jnp.float32),
                jax.ShapeDtypeStruct((), jnp.int32),
            )
            .compile()
        )

    def __call__(self, variables: dict) -> dict[str, float]:
        """Loss, accuracy and top-5 accuracy of a network's variables."""
        parts = []
        for first in range(0, len(self._indices), dispatch.STEPS):
            chunk = slice(first, first + dispatch.STEPS)
            indices, mask = self._indices[chunk], self._mask[chunk]
            part = self._run(
                variables,
                self._split.images,
                self._split.labels,
                dispatch.pad_steps(indices),
                dispatch.pad_steps(mask),
                np.int32(len(indices)),
            )
            parts.append(part)
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
      splits: put on the device.
      config: for the seed of the data order, and the batch sizes.
      fresh: whether the run begins at step 0.
    """
    start = time.perf_counter()
    train, test = Resident(splits.train), Resident(splits.test)
    with ThreadPoolExecutor() as pool:
        trainer = pool.submit(Trainer, task, state, train, config)
        evaluator = pool.submit(Evaluator, task, state.evaluated, test, config)
        create = jit_once(partial(initial_state, task, splits.channels))
        initialise = fresh and pool.submit(lambda: create.lower(np.int32(0)).compile())
        return Programs(
            trainer.result(),
            evaluator.result(),
            initialise.result() if fresh else None,
            time.perf_counter() - start,
        )
