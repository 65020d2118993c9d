"""Measure the throughput of an experiment: run its programs as a run does, timed."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import jax
import numpy as np

from hybrid_jax import data
from hybrid_jax.config.schema import Config
from hybrid_jax.models.cost import cost
from hybrid_jax.profiling.device_peak import peak_flops
from hybrid_jax.profiling.flops import count_step_flops
from hybrid_jax.profiling.memory import measure_memory
from hybrid_jax.profiling.trace import profile_steps
from hybrid_jax.programs.compile import compiler_threads
from hybrid_jax.programs.experiment import Experiment, set_up_process, with_statistics
from hybrid_jax.programs.memory_fit import fit_trainer
from hybrid_jax.programs.programs import Evaluator, Trainer
from hybrid_jax.training.multi_step import SECONDS_A_CALL
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task

MIN_CALLS = 3
TARGET_CALLS = 10  # in the time of a measurement, if steps are short enough
PROFILED_STEPS = 3

Dispatch = Callable[[int], Any]  # starts some steps; returns arrays to wait for


@dataclasses.dataclass
class TrainingSteps:
    """Training steps of a run, one after the other.

    Attributes:
      trainer: compiled steps.
      task: constants of the steps.
      state: state after the last dispatched step.
      step: number of dispatched steps.
    """

    trainer: Trainer
    task: Task
    state: TrainState
    step: int = 0

    def __call__(self, count: int) -> Any:
        """Dispatch some steps; return their metrics."""
        self.state, sums = self.trainer(self.task, self.state, self.step, count)
        self.step += count
        return sums


@dataclasses.dataclass
class EvaluationSteps:
    """Evaluation of a split's batches, over and over.

    Attributes:
      evaluator: compiled steps.
      split: the split that is evaluated.
      training: has the weights.
      step: number of dispatched batches.
    """

    evaluator: Evaluator
    split: data.Split
    training: TrainingSteps
    step: int = 0

    def __call__(self, count: int) -> Any:
        """Dispatch some batches; return their metrics."""
        task, variables = self.training.task, self.training.state.evaluated
        first, self.step = self.step, self.step + count
        return self.evaluator.dispatch(task, variables, self.split, first, count)


def measure_experiment(
    config: Config,
    seconds: float,
    profile_folder: str = "",
    report_progress: Callable[[str], None] = lambda activity: None,
) -> dict:
    """Measure throughput, use of the device, memory and start-up of an experiment.

    Args:
      config: a validated config.
      seconds: time to measure training, and then evaluation, once each is compiled.
      profile_folder: gets a trace of some steps; empty records none.
      report_progress: called with the name of each activity, as it begins.

    Returns:
      What `hybrid-jax benchmark --json` writes.
    """
    started = time.perf_counter()
    config = set_up_process(config)
    experiment = Experiment(config, data.load(config.data))
    report_progress("compiling")
    with compiler_threads() as threads:
        experiment, training = start_training(experiment, threads, report_progress)
        trainer, program = training.trainer, training.trainer.program
        start_up_seconds = {
            "traced": program.trace_seconds,
            "compiled": program.compile_seconds,
            "from_cache": program.from_disk_cache,
            "first_step": trainer.first,
            "ready": time.perf_counter() - started,
        }
        report_progress("training")
        numbers = measure_training(training, experiment, seconds)
        numbers["start_up_seconds"] = start_up_seconds
        if profile_folder:
            report_progress("profiling")
            steps = min(PROFILED_STEPS, trainer.loader.steps)
            numbers["profile"] = profile_steps(
                profile_folder, program.wait(), training, steps
            )
        evaluator = experiment.evaluator(threads)
        split = experiment.splits.test or experiment.splits.validation
        if evaluator and split:
            report_progress("evaluating")
            numbers["eval"] = measure_throughput(
                EvaluationSteps(evaluator, split, training),
                seconds,
                max_steps=evaluator.steps,
                images_per_step=len(split) / evaluator.batches(split),
            )
    return _setup(experiment, training) | numbers


def start_training(
    experiment: Experiment, threads: Executor, say: Callable[[str], None]
) -> tuple[Experiment, TrainingSteps]:
    """Initialize a training state, and run the first step.

    Args:
      experiment: experiment with as many micro-batches as its config asks for.
      threads: executor from `compile.compiler_threads`.
      say: called with a line about micro-batches, if a step is too large without them.

    Returns:
      The experiment with as many micro-batches as a run would take, and its steps.

    Raises:
      UserError: the step is too large, and may not or cannot be split to fit.
    """
    trainer = experiment.trainer(threads)
    initialize = experiment.initialize.compile(threads)
    experiment, trainer = fit_trainer(
        experiment, trainer, threads, resumed=False, say=say
    )
    task = with_statistics(experiment.task, experiment.splits.statistics)
    state = initialize(np.int32(experiment.config.seed))
    training = TrainingSteps(trainer, task, state)
    training(1)
    return experiment, training


def measure_training(
    training: TrainingSteps, experiment: Experiment, seconds: float
) -> dict:
    """Measure throughput, memory, and FLOP/s as a share of the device's peak (MFU)."""
    trainer, batch_size = training.trainer, experiment.plan.batch_size
    throughput = measure_throughput(
        training, seconds, max_steps=trainer.loader.steps, images_per_step=batch_size
    )
    device = jax.devices()[0]
    memory = measure_memory(device, trainer.program.wait())  # before the peak is timed
    peak = peak_flops(device, experiment.config.dtype)
    # The devices of a CPU share its cores; any other peak is of one device.
    is_shared = peak.source == "measured" and device.platform == "cpu"
    devices = 1 if is_shared else experiment.devices.count
    peak_per_second = peak.per_second * devices
    flops = count_step_flops(
        training.task,
        experiment.shapes,
        batch_size,
        experiment.splits.channels,
        experiment.config.optim,
    )
    achieved = flops / (throughput["ms_per_step"] / 1e3)
    return {
        "train": throughput,
        "flops": {
            "per_step": flops,
            "per_second": achieved,
            "peak_per_second": peak_per_second,
            "peak_source": peak.source,
            "mfu": achieved / peak_per_second,
        },
        "memory": memory,
    }


def measure_throughput(
    dispatch: Dispatch, seconds: float, *, max_steps: int, images_per_step: float
) -> dict:
    """Time calls of several steps; each call is dispatched before the last one ends.

    Args:
      dispatch: starts some compiled steps.
      seconds: how long to measure; at least `MIN_CALLS` calls are measured.
      max_steps: most steps of a call.
      images_per_step: mean number of images of a step.

    Returns:
      Images per second and milliseconds per step (median and range over calls), and
      the numbers of calls and steps.
    """
    steps = _choose_steps_per_call(dispatch, seconds, max_steps)
    times = _time_calls(dispatch, steps, seconds)
    median = statistics.median(times)
    return {
        "images_per_second": images_per_step / median,
        "ms_per_step": 1e3 * median,
        "ms_per_step_range": [1e3 * min(times), 1e3 * max(times)],
        "images_per_step": images_per_step,
        "calls": len(times),
        "steps_per_call": steps,
    }


def _choose_steps_per_call(dispatch: Dispatch, seconds: float, max_steps: int) -> int:
    """Return the steps that a run would dispatch at once, fewer if time is short."""
    jax.block_until_ready(dispatch(1))  # the first step is slower
    start = time.perf_counter()
    jax.block_until_ready(dispatch(1))
    step_seconds = time.perf_counter() - start
    call_seconds = min(SECONDS_A_CALL, seconds / TARGET_CALLS)
    return min(max(int(call_seconds / step_seconds), 1), max_steps)


def _time_calls(dispatch: Dispatch, steps: int, seconds: float) -> list[float]:
    """Return the seconds of a step in each call, from the end of the call before it."""
    times: list[float] = []
    jax.block_until_ready(dispatch(steps))
    last, pending = time.perf_counter(), dispatch(steps)
    while len(times) < MIN_CALLS or sum(times) * steps < seconds:
        following = dispatch(steps)
        jax.block_until_ready(pending)
        now = time.perf_counter()
        times.append((now - last) / steps)
        last, pending = now, following
    jax.block_until_ready(pending)
    return times


def _setup(experiment: Experiment, training: TrainingSteps) -> dict:
    """Return the model, data and device that were measured."""
    config, splits, device = experiment.config, experiment.splits, jax.devices()[0]
    return {
        "model": config.model.name,
        "parameters": sum(x.size for x in jax.tree.leaves(training.state.params)),
        "macs": cost(experiment.model, splits.channels).macs,
        "image_size": list(training.task.image_size),
        "batch_size": config.train.batch_size,
        "micro_batches": config.optim.accumulate,
        "dtype": config.dtype,
        "data": splits.name,
        "loader": "resident" if splits.train.resident else "streamed",
        "device": device.device_kind,
        "devices": experiment.devices.count,
        "platform": device.platform,
        "jax": jax.__version__,
    }
