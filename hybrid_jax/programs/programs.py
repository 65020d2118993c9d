"""Compile and call the programs of a run: initialization, training, evaluation."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.data import Split
from hybrid_jax.data.loader import Loader, Stream, create_loader, pad_rows
from hybrid_jax.data.sampler import EvaluationOrder, TrainingOrder
from hybrid_jax.errors import UserError
from hybrid_jax.ops.backend import is_compiling_for_chips, target_backend
from hybrid_jax.parallel.mesh import Devices, Pmap
from hybrid_jax.programs.compile import Program, compiler_threads
from hybrid_jax.programs.fault_injection import Fault
from hybrid_jax.runtime import jit_once
from hybrid_jax.training import metrics, multi_step
from hybrid_jax.training.state import TrainState, create_state
from hybrid_jax.training.step import Network, Task, compute_logits

_SEED = jax.ShapeDtypeStruct((), jnp.int32)
_COUNT = jax.ShapeDtypeStruct((), jnp.int32)  # number of steps in a dispatch


class Trainer:
    """The training program, which runs several steps in one dispatch.

    Attributes:
      program: compiled program of these steps.
      loader: loader of the split.
      order: order of the data; batches may be left out of it.
      pace: says how many steps to dispatch.
      first: seconds of the first dispatch, which is waited for; 0 before it.
    """

    def __init__(
        self,
        threads: Executor,
        devices: Devices,
        task: Task,
        state: TrainState,
        loader: Loader,
        order: TrainingOrder,
        fault: str = "",
    ):
        """Trace the program, then load the images while `threads` compile.

        Args:
          threads: executor from `compile.compiler_threads`.
          devices: devices that share each batch.
          task: the constants of the steps; its arrays may be only shapes.
          state: shapes of a state, as placed on the devices.
          loader: brings the training split to the devices.
          order: order of its images.
          fault: fault to inject, see `fault_injection`; empty injects none.
        """
        self.order, self.loader = order, loader
        self._fault = Fault(fault, order)
        self.pace = multi_step.Pace(self.loader.steps)
        self.first = 0.0
        self.program = training_program(devices, task, state, self.loader)
        self.program.compile(threads)
        jax.block_until_ready(self.loader.data)

    def count(self, step: int, last: int) -> int:
        """Return how many steps to dispatch after `step`, up to `last` at most."""
        return self._fault.limit_steps(step, min(self.pace.steps, last - step))

    def __call__(
        self, task: Task, state: TrainState, step: int, count: int
    ) -> tuple[TrainState, metrics.Sums]:
        """Run steps `step` to `step + count - 1`; the state's buffers are donated."""
        task = self._fault.apply(task, step)
        program, chunk = self.program.wait(), self.loader.chunk(step, count)
        start = time.perf_counter()
        done = program(task, state, self.loader.data, chunk, np.int32(count))
        if not self.first:
            jax.block_until_ready(done)
            self.first = time.perf_counter() - start
        return done


def check_kernels(devices: Devices, task: Task) -> None:
    """Refuse kernels in training that the devices do not run.

    Raises:
      UserError: names the field and the way out.
    """
    if task.model.block_config.kernels == "xla":
        return
    field = f"config.train.kernels={task.model.block_config.kernels}"
    if target_backend() != "gpu":
        raise UserError(f"{field} needs a GPU, not a {target_backend()}: leave it out")
    if devices.count > 1 and not isinstance(devices, Pmap):
        pmap = "" if is_compiling_for_chips() else "config.parallel.kind=pmap, or "
        raise UserError(
            f"{field} cannot divide a batch among {devices.count} GPUs by jit: give "
            f"{pmap}config.parallel.devices=1"
        )


def training_program(
    devices: Devices, task: Task, state: TrainState, loader: Loader
) -> Program:
    """Trace the training steps of a task on a loader's chunks.

    Raises:
      UserError: the devices do not run the kernels that the task asks for.
    """
    check_kernels(devices, task)
    trace = devices.tracer(
        _bind_loader(multi_step.train_steps, loader), results=(state, None), donate=(1,)
    )
    return Program(
        trace,
        task,
        state,
        loader.data_shapes,
        loader.shapes,
        _COUNT,
        key=(
            "training",
            devices,
            type(loader),
            loader.steps,
            metrics.names(training=True),
        ),
    )


def step_compiler(
    devices: Devices,
    task: Task,
    state: TrainState,
    split: Split,
    order: TrainingOrder,
) -> Callable[[int], jax.stages.Compiled]:
    """Return a function that compiles a run's steps with a number of micro-batches.

    The arguments are those of `Trainer`; no image is read.
    """

    def compile_step(micro_batches: int) -> jax.stages.Compiled:
        loader = create_loader(split, order, order.batch_size, devices=devices)
        cut = task.replace(accumulate=micro_batches)
        with compiler_threads() as threads:
            program = training_program(devices, cut, state, loader)
            return program.compile(threads).wait()

    return compile_step


class Evaluator:
    """The program that evaluates splits; every image counts once.

    One program serves all splits whose images have one shape.

    Attributes:
      program: compiled program of several batches.
      batch_size: images per batch, over all devices.
      steps: largest number of batches in one call of the program.
    """

    def __init__(
        self,
        threads: Executor,
        devices: Devices,
        network: Network,
        variables: dict,
        splits: Sequence[Split],
        batch_size: int,
        workers: int = 0,
    ):
        """Trace the program, which `threads` compile.

        Args:
          threads: executor from `compile.compiler_threads`.
          devices: devices that share each batch.
          network: the constants; its arrays may be only shapes.
          variables: shapes of the model's variables, as placed on the devices.
          splits: splits to evaluate, whose images have one shape.
          batch_size: largest batch size, unless all splits are smaller.
          workers: processes that decode a stream; 0 decodes in threads.
        """
        largest = min(batch_size, max(map(len, splits)))
        self.batch_size = -(-largest // devices.count) * devices.count
        self._devices, self._workers = devices, workers
        self._passes: dict[int, _SplitPass] = {}
        stream = self._pass(splits[0]).stream
        self.steps = stream.steps
        shape = (self.steps, self.batch_size)
        self._mask = devices.batch_shape(shape, jnp.float32, axis=1)
        self.program = Program(
            devices.tracer(_bind_loader(multi_step.eval_steps, stream)),
            network,
            variables,
            stream.data_shapes,
            stream.shapes,
            self._mask,
            _COUNT,
            key=(
                "evaluation",
                devices,
                self.steps,
                metrics.names(training=False),
            ),
        ).compile(threads)

    def __call__(
        self, network: Network, variables: dict, split: Split
    ) -> dict[str, metrics.Number]:
        """Return the metrics of a model's variables on a split."""
        return metrics.means(*self.start(network, variables, split))

    def start(
        self, network: Network, variables: dict, split: Split
    ) -> list[metrics.Sums]:
        """Dispatch an evaluation; return its sums, for which `metrics.means` waits."""
        run, parts = self._pass(split), []
        first, run.next = run.next, run.next + run.batches
        for step in range(first, run.next, self.steps):
            count = min(self.steps, run.next - step)
            parts.append(self.dispatch(network, variables, split, step, count))
        return parts

    def dispatch(
        self, network: Network, variables: dict, split: Split, first: int, count: int
    ) -> metrics.Sums:
        """Dispatch `count` batches, the next of the split; return their sums.

        Args:
          network: the constants.
          variables: the model's variables.
          split: split to evaluate.
          first: number of the first batch, one after the last that was dispatched.
          count: number of batches, at most `steps`.
        """
        run = self._pass(split)
        mask = np.stack([run.order.mask(i) for i in range(first, first + self.steps)])
        return self.program(
            network,
            variables,
            run.stream.data,
            run.stream.chunk(first, count),
            self._devices.put(mask, self._mask),
            np.int32(count),
        )

    def batches(self, split: Split) -> int:
        """Return how many batches one evaluation of a split takes."""
        return self._pass(split).batches

    def forget(self, split: Split) -> None:
        """Free the images of a split that is not evaluated again."""
        self._passes.pop(id(split), None)

    def _pass(self, split: Split) -> "_SplitPass":
        if id(split) not in self._passes:
            self._passes[id(split)] = _SplitPass(
                split, self.batch_size, self._devices, self._workers
            )
        return self._passes[id(split)]


class _SplitPass:
    """A split that an `Evaluator` passes through, once or several times."""

    def __init__(self, split: Split, batch_size: int, devices: Devices, workers: int):
        self.split, self.next = split, 0  # keeps the split, whose id is its key
        self.order = EvaluationOrder(len(split), batch_size)
        self.batches = len(self.order)
        self.stream = Stream(split, self.order, batch_size, devices, workers)


class Predictor:
    """The program that computes logits of images of one shape.

    Attributes:
      program: compiled program of one batch.
      batch_size: largest number of images in a call.
    """

    def __init__(
        self,
        threads: Executor,
        devices: Devices,
        network: Network,
        variables: dict,
        shape: tuple[int, int, int],
        has_extents: bool,
        batch_size: int,
    ):
        """Trace the program, which `threads` compile.

        Args:
          threads: executor from `compile.compiler_threads`.
          devices: devices that share each batch, of the kind `jit`.
          network: the constants; its arrays may be only shapes.
          variables: shapes of the model's variables, as placed on the devices.
          shape: `(h, w, C)` of an image.
          has_extents: whether images fill only a part of their arrays.
          batch_size: images per batch; rounded up to a multiple of the devices.
        """
        self.batch_size = -(-batch_size // devices.count) * devices.count
        self._devices = devices
        arrays: list[tuple[tuple[int, ...], Any]] = [
            ((self.batch_size, *shape), jnp.uint8)
        ]
        if has_extents:
            arrays.append(((self.batch_size, 2), jnp.int32))
        self._shapes = tuple(devices.batch_shape(*array, axis=0) for array in arrays)
        self.program = Program(
            devices.tracer(compute_logits),
            network,
            variables,
            *self._shapes,
            key=("prediction", devices),
        ).compile(threads)

    def __call__(
        self,
        network: Network,
        variables: dict,
        images: np.ndarray,
        extents: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return logits float32 `[n, classes]`.

        Args:
          network: the constants.
          variables: the model's variables.
          images: uint8 `[n, h, w, C]`, at most `batch_size` of them.
          extents: int32 `[n, 2]`, height and width that each image fills; None if the
            program has none.
        """
        given = (images,) if extents is None else (images, extents)
        padded = tuple(pad_rows(array, self.batch_size) for array in given)
        arrays = self._devices.put(padded, self._shapes)
        return np.asarray(self.program(network, variables, *arrays))[: len(images)]


def initialization_program(devices: Devices, task: Task, channels: int) -> Program:
    """Trace the program that creates the state at step 0 from a seed.

    Its `shapes` are those of a state, as placed on the devices.
    """

    def create(seed: jax.Array) -> TrainState:
        state = create_state(
            task.model,
            task.optimizer,
            seed,
            (*task.image_size, channels),
            averaged=task.ema_decay > 0,
            freeze=task.freeze,
        )
        return devices.constrain_state(state)

    key = ("initialization", devices, channels, jax.tree.structure(task))
    program = Program(jit_once(create).trace, _SEED, key=key)
    program.shapes = devices.state_shapes(program.shapes)
    return program


def _bind_loader(steps: Callable, loader: Loader) -> Callable:
    """Return the function `steps` with its loader bound."""

    def bound(task: Any, *arguments: Any) -> Any:
        return steps(task, loader, *arguments)

    bound.__name__ = steps.__name__  # shown by the profiler and the cache
    return bound
