"""An experiment's programs, run as a run does, and timed."""

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
from hybrid_jax.engine.compile import compiler_threads
from hybrid_jax.engine.experiment import Experiment, set_up_process, with_statistics
from hybrid_jax.engine.programs import Evaluator, Trainer
from hybrid_jax.profiling.device_peak import Peak, peak_of
from hybrid_jax.profiling.flops import flops_of_step
from hybrid_jax.profiling.memory import memory
from hybrid_jax.profiling.trace import profile
from hybrid_jax.training.multi_step import SECONDS_A_CALL
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task

LEAST_CALLS = 3
CALLS = 10  # at least about as many in the time that is given, if steps allow
PROFILED_STEPS = 3

Dispatch = Callable[[int], Any]  # from a number of steps to what can be waited for


@dataclasses.dataclass
class Training:
    """Steps of a run, one after the other; a call dispatches some."""

    trainer: Trainer
    task: Task
    state: TrainState
    step: int = 0

    def __call__(self, count: int) -> Any:
        self.state, sums = self.trainer(self.task, self.state, self.step, count)
        self.step += count
        return sums


@dataclasses.dataclass
class Evaluation:
    """Batches of a split, over and over; a call dispatches some."""

    evaluator: Evaluator
    split: data.Split
    training: Training
    step: int = 0

    def __call__(self, count: int) -> Any:
        task, variables = self.training.task, self.training.state.evaluated
        first, self.step = self.step, self.step + count
        return self.evaluator.dispatch(task, variables, self.split, first, count)


def measure(
    config: Config,
    seconds: float,
    folder: str = "",
    say: Callable[[str], None] = lambda doing: None,
) -> dict:
    """All numbers of an experiment.

    Args:
      config: validated.
      seconds: of training, and as many of evaluation, once both are compiled.
      folder: of a profile; empty makes none.
      say: is told what goes on, since all of it takes a while.
    """
    started = time.perf_counter()
    config = set_up_process(config)
    experiment = Experiment(config, data.load(config.data))
    say("compiling")
    with compiler_threads() as threads:
        training = begin(experiment, threads)
        ready = time.perf_counter() - started
        say("training")
        numbers = of_training(training, experiment, seconds, ready)
        if folder:
            say("profiling")
            trainer = training.trainer
            steps = min(PROFILED_STEPS, trainer.loader.steps)
            program = trainer.program.wait()
            numbers["profile"] = profile(folder, program, training, steps)
        if evaluator := experiment.evaluator(threads):
            say("evaluating")
            split = experiment.splits.test or experiment.splits.validation
            images = len(split) / evaluator.batches(split)
            evaluation = Evaluation(evaluator, split, training)
            numbers["eval"] = rate(evaluation, seconds, evaluator.steps, images)
    return described(experiment, training) | numbers


def begin(experiment: Experiment, threads: Executor) -> Training:
    """A training behind its first step."""
    initialise = experiment.initialise.compile(threads)
    trainer = experiment.trainer(threads)
    task = with_statistics(experiment.task, experiment.splits.statistics)
    training = Training(trainer, task, initialise(np.int32(experiment.config.seed)))
    training(1)
    return training


def of_training(
    training: Training, experiment: Experiment, seconds: float, ready: float
) -> dict:
    """Rate, use of the device, memory, and what the `ready` seconds to here went to."""
    trainer, batch_size = training.trainer, experiment.plan.batch_size
    device, program = jax.devices()[0], trainer.program
    trained = rate(training, seconds, trainer.loader.steps, batch_size)
    used = memory(device, program.wait())
    peak = peak_of(device, experiment.config.dtype)
    if peak.source != "measured":  # what is measured here, devices of a host share
        peak = peak._replace(flops=peak.flops * experiment.devices.shared_by)
    channels, shapes = experiment.splits.channels, experiment.shapes
    work = flops_of_step(training.task, shapes, batch_size, channels)
    return {
        "train": trained,
        "flops": utilisation(work, trained, peak),
        "memory": used,
        "start_up_seconds": {
            "traced": program.trace_seconds,
            "compiled": program.compile_seconds,
            "from_cache": program.from_disk_cache,
            "first_step": trainer.first,
            "ready": ready,
        },
    }


def rate(dispatch: Dispatch, seconds: float, most: int, images: float) -> dict:
    """Times calls of several steps, the next one under way while one is waited for.

    Args:
      dispatch: starts some steps, compiled.
      seconds: to measure for; a few calls at least.
      most: steps in a call.
      images: that count in a step.
    """
    count = _steps_of_a_call(dispatch, seconds, most)
    times = _times(dispatch, count, seconds)
    median = statistics.median(times)
    return {
        "images_per_second": images / median,
        "ms_per_step": 1e3 * median,
        "ms_per_step_range": [1e3 * min(times), 1e3 * max(times)],
        "images_per_step": images,
        "calls": len(times),
        "steps_per_call": count,
    }


def _steps_of_a_call(dispatch: Dispatch, seconds: float, most: int) -> int:
    """As many as a run would dispatch at once, or fewer where time is short."""
    jax.block_until_ready(dispatch(1))  # the first is slower
    start = time.perf_counter()
    jax.block_until_ready(dispatch(1))
    of_one = time.perf_counter() - start
    return min(max(int(min(SECONDS_A_CALL, seconds / CALLS) / of_one), 1), most)


def _times(dispatch: Dispatch, count: int, seconds: float) -> list[float]:
    """Seconds of a step in each call, from the end of the call before it."""
    times = []
    jax.block_until_ready(dispatch(count))
    last, under_way = time.perf_counter(), dispatch(count)
    while len(times) < LEAST_CALLS or sum(times) * count < seconds:
        following = dispatch(count)
        jax.block_until_ready(under_way)
        now = time.perf_counter()
        times.append((now - last) / count)
        last, under_way = now, following
    jax.block_until_ready(under_way)
    return times


def utilisation(work: int, trained: dict, peak: Peak) -> dict:
    """What a step's operations come to in a second, and of the device's peak."""
    achieved = work / (trained["ms_per_step"] / 1e3)
    return {
        "per_step": work,
        "per_second": achieved,
        "peak_per_second": peak.flops,
        "peak_source": peak.source,
        "mfu": achieved / peak.flops,
    }


def described(experiment: Experiment, training: Training) -> dict:
    """What was measured, and on what."""
    config, splits, device = experiment.config, experiment.splits, jax.devices()[0]
    return {
        "model": config.model.name,
        "parameters": sum(x.size for x in jax.tree.leaves(training.state.params)),
        "image_size": list(training.task.image_size),
        "batch_size": config.train.batch_size,
        "dtype": config.dtype,
        "data": splits.name,
        "loader": "resident" if splits.train.resident else "streamed",
        "device": device.device_kind,
        "devices": experiment.devices.shared_by,
        "platform": device.platform,
        "jax": jax.__version__,
    }
