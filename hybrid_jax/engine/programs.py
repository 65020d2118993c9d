"""The programs of a run: the state it starts from, its steps, its evaluation."""

import time
from collections.abc import Callable
from concurrent.futures import Executor

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrid_jax.data import Split
from hybrid_jax.data.loaders import Loader, create_loader
from hybrid_jax.data.order import EvaluationOrder, TrainingOrder
from hybrid_jax.engine.compile import Program, compiler
from hybrid_jax.engine.fault_injection import Fault
from hybrid_jax.engine.setup import initial_state
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.runtime import jit_once
from hybrid_jax.training import dispatch, metrics
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task

_SEED = jax.ShapeDtypeStruct((), jnp.int32)
_COUNT = jax.ShapeDtypeStruct((), jnp.int32)  # of the steps of a dispatch


class Trainer:
    """Training steps, several in one dispatch, as many as its `pace` says.

    Attributes:
      program: of these steps.
      loader: of the split.
      order: of the data; batches may be left out of it.
      pace: how many steps to dispatch.
      first: seconds of the first dispatch, which is waited for; 0 before it.
    """

    def __init__(
        self,
        threads: Executor,
        devices: Devices,
        task: Task,
        state: TrainState,
        split: Split,
        config: ConfigDict,
    ):
        """Traces, then brings the split to the devices while `threads` compile.

        Args:
          threads: of `ahead.compiler`.
          devices: that share each batch.
          task: the constants of the steps; of its arrays, shapes will do.
          state: shapes of a state, as they lie on the devices.
          split: put on the devices, or streamed to them.
          config: for the order of the data, and the batch size.
        """
        batch_size = config.train.batch_size
        self.order = TrainingOrder(
            split.labels, batch_size, config.seed, config.train.sampling
        )
        self._fault = Fault(config.debug.inject, self.order)
        self.loader = create_loader(
            split, self.order, batch_size, config.data.workers, devices
        )
        self.pace = dispatch.Pace(self.loader.steps)
        self.first = 0.0
        self.program = training_program(devices, task, state, self.loader)
        self.program.compile(threads)
        jax.block_until_ready(self.loader.data)

    def count(self, step: int, last: int) -> int:
        """How many steps to dispatch behind `step`, up to `last` at most."""
        return self._fault.limited(step, min(self.pace.steps, last - step))

    def __call__(
        self, task: Task, state: TrainState, step: int, count: int
    ) -> tuple[TrainState, metrics.Sums]:
        """Steps `step` to `step + count` from a state, which is used up."""
        task = self._fault.strike(task, step)
        program, chunk = self.program.wait(), self.loader.chunk(step, count)
        start = time.perf_counter()
        done = program(task, state, self.loader.data, chunk, np.int32(count))
        if not self.first:
            jax.block_until_ready(done)
            self.first = time.perf_counter() - start
        return done


def training_program(
    devices: Devices, task: Task, state: TrainState, loader: Loader
) -> Program:
    """Steps of a task on a loader's chunks, traced; for shapes of a state."""
    trace = devices.tracer(
        _with(dispatch.train_steps, loader), results=(state, None), donate=(1,)
    )
    return Program(trace, task, state, loader.data_shapes, loader.shapes, _COUNT)


def step_compiler(
    devices: Devices, task: Task, state: TrainState, split: Split, config: ConfigDict
) -> Callable[[int], jax.stages.Compiled]:
    """What compiles the steps of a run, from a number of micro-batches.

    Arguments are those of a `Trainer`; no image is looked at.
    """

    def compile_step(pieces: int) -> jax.stages.Compiled:
        batch_size = config.train.batch_size
        order = TrainingOrder(split.labels, batch_size, config.seed)
        loader = create_loader(split, order, batch_size, devices=devices)
        given = (devices, task.replace(accumulate=pieces), state, loader)
        with compiler() as threads:
            return training_program(*given).compile(threads).wait()

    return compile_step


class Evaluator:
    """The metrics of a whole split, every image counted once.

    Attributes:
      program: of its steps.
      loader: of the split.
      batches: of the whole split.
    """

    def __init__(
        self,
        threads: Executor,
        devices: Devices,
        task: Task,
        variables: dict,
        split: Split,
        config: ConfigDict,
    ):
        """As a `Trainer`, for shapes of a network's variables."""
        batch_size = min(config.train.eval_batch_size, len(split))
        batch_size = -(-batch_size // devices.shared_by) * devices.shared_by
        self._devices = devices
        self._order = EvaluationOrder(len(split), batch_size)
        self._next, self.batches = 0, len(self._order)
        self.loader = create_loader(
            split, self._order, batch_size, config.data.workers, devices
        )
        shape = (self.loader.steps, batch_size)
        self._mask = devices.shape(shape, jnp.float32, axis=1)
        self.program = Program(
            devices.tracer(_with(dispatch.eval_steps, self.loader)),
            task,
            variables,
            self.loader.data_shapes,
            self.loader.shapes,
            self._mask,
            _COUNT,
        ).compile(threads)
        jax.block_until_ready(self.loader.data)

    def __call__(self, task: Task, variables: dict) -> dict[str, float]:
        """Loss, accuracy and top-5 accuracy of a network's variables."""
        return metrics.means(*self.start(task, variables))

    def start(self, task: Task, variables: dict) -> list[metrics.Sums]:
        """Dispatches an evaluation: sums that `metrics.means` waits for."""
        parts, steps = [], self.loader.steps
        end = self._next + self.batches
        for first in range(self._next, end, steps):
            count = min(steps, end - first)
            parts.append(self.dispatch(task, variables, first, count))
        self._next = end
        return parts

    def dispatch(
        self, task: Task, variables: dict, first: int, count: int
    ) -> metrics.Sums:
        """Sums of `count` batches; the split begins anew after its last batch."""
        steps = range(first, first + self.loader.steps)
        mask = np.stack([self._order.mask(step) for step in steps])
        return self.program(
            task,
            variables,
            self.loader.data,
            self.loader.chunk(first, count),
            self._devices.put(mask, self._mask),
            np.int32(count),
        )


def initialiser(devices: Devices, task: Task, channels: int) -> Program:
    """The state at step 0 of a seed int32, traced; its `shapes` are a state's."""

    def create(seed):
        return devices.laid_out(initial_state(task, channels, seed))

    program = Program(jit_once(create).trace, _SEED)
    program.shapes = devices.state(program.shapes)
    return program


def _with(steps: Callable, loader: Loader) -> Callable:
    """Steps of a task and a loader, as a function of the task alone."""

    def of_loader(task, *given):
        return steps(task, loader, *given)

    of_loader.__name__ = steps.__name__  # which the profiler and the cache show
    return of_loader
