"""Check whether a training step fits into memory, and find micro-batches that do.

XLA plans a program's memory when it compiles it. If a step is too large,
`config.train.micro_batch=auto` finds the largest power of two of images that fit at a
time, and their gradients are added up. `off` refuses the step and says what would fit.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import jax

from hybrid_jax.config.schema import Config
from hybrid_jax.data.memory_budget import device_memory
from hybrid_jax.errors import OutOfMemory, UserError, megabytes
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.programs.experiment import Experiment
from hybrid_jax.programs.programs import Trainer, step_compiler
from hybrid_jax.runtime import planned_memory

AUTO = "auto"
# Share of the memory that a step of micro-batches may take; evaluation, and images on
# their way to the device, need some too.
SHARE = 0.9
FEW_IMAGES = 16  # with fewer images, the statistics of batch norms are noisy

Compile = Callable[[int], jax.stages.Compiled]  # from a number of micro-batches


def fit_trainer(
    experiment: Experiment,
    trainer: Trainer,
    threads: Executor,
    resumed: bool,
    say: Callable[[str], None],
) -> tuple[Experiment, Trainer]:
    """Return an experiment whose steps fit, and its trainer.

    Args:
      experiment: experiment with as many micro-batches as its config asks for.
      trainer: its trainer.
      threads: executor from `compile.compiler_threads`.
      resumed: whether the run has begun, so that its micro-batches cannot change.
      say: prints a line about what takes long, and what was found.

    Raises:
      UserError: the step is too large, and may not or cannot be split to fit.
    """
    count = find_micro_batches(experiment, trainer.program.wait(), resumed, say)
    if count == experiment.config.optim.accumulate:
        return experiment, trainer
    experiment = experiment.with_micro_batches(count)
    return experiment, experiment.trainer(threads, trainer)


def find_micro_batches(
    experiment: Experiment,
    step: jax.stages.Compiled,
    resumed: bool,
    say: Callable[[str], None],
) -> int:
    """Return how many micro-batches a step needs, the same number on all hosts.

    Args:
      experiment: experiment with as many micro-batches as its config asks for.
      step: compiled training program of the experiment.
      resumed: whether the run has begun, so that its micro-batches cannot change.
      say: prints a line about what takes long, and what was found.

    Raises:
      UserError: the step is too large, and may not or cannot be split to fit.
    """
    config, devices, hosts = experiment.config, experiment.devices, experiment.hosts
    batch_size, count = config.train.batch_size, config.optim.accumulate
    needed = bytes_needed(step, devices)
    if hosts.max(needed / device_memory()) > 1:
        say("A step is larger than the memory: compiling smaller ones to see what fits")
        compile_step = step_compiler(
            devices=devices,
            task=experiment.task,
            state=experiment.shapes,
            split=experiment.splits.train,
            order=experiment.training_order(),
        )
        fitting = fewest_micro_batches(batch_size, count, compile_step, devices)
        if resumed or config.train.micro_batch != AUTO or fitting is None:
            raise too_large(config, devices, needed, fitting, resumed)
        count = int(hosts.max(fitting))
        say(
            f"{batch_size // count} of the {batch_size} images of a step fit at a "
            "time: their gradients are added up (config.train.micro_batch)"
        )
    images = batch_size // count
    if images < FEW_IMAGES and jax.tree.leaves(experiment.shapes.batch_stats):
        say(
            f"Batch norms see {images} images at a time, and below {FEW_IMAGES} their "
            "statistics are noisy: raise config.train.batch_size, or use more memory"
        )
    return count


def fewest_micro_batches(
    batch_size: int, least: int, compile_step: Compile, devices: Devices
) -> int | None:
    """Return the least number of micro-batches that makes each fit; None if none does.

    Args:
      batch_size: images of a step.
      least: number of micro-batches that is tried first.
      compile_step: compiles a step of a number of micro-batches.
      devices: devices that share a micro-batch.
    """
    budget = SHARE * device_memory()
    resident, per_image = 0, 0.0  # lower bounds, in bytes
    for count in _candidates(batch_size, least, devices.count):
        images = batch_size // count
        if resident + per_image * images > budget:
            continue  # too large by the bounds, without compiling
        step = compile_step(count)
        resident, temporary = _planned_bytes(step, devices)
        if resident + temporary <= budget:
            return count
        per_image = temporary / images  # fewer images need more each
    return None


def too_large(
    config: Config,
    devices: Devices,
    needed: int,
    micro_batches: int | None,
    resumed: bool,
) -> UserError:
    """Return the error for a step that is larger than the memory.

    Args:
      config: config of the experiment.
      devices: devices that share a micro-batch.
      needed: bytes that the step needs on a device.
      micro_batches: number of micro-batches that would fit; None if none would.
      resumed: whether the run has begun.
    """
    available = megabytes(device_memory())
    facts = f"a step takes {megabytes(needed)} of a device's {available}"
    if resumed:
        return UserError(
            f"{facts}, and this run began with these micro-batches: resume it on a "
            "machine with more memory, or start a new run with --config.init_from"
        )
    if micro_batches is None:
        return OutOfMemory(
            f"{facts}, and not even a micro-batch of {devices.count} fits: "
            f"{_ways_out(config)}"
        )
    return OutOfMemory(
        f"{facts}: {config.train.batch_size // micro_batches} images at a time would "
        f"fit: set --config.train.micro_batch=auto, or {_ways_out(config)}"
    )


def bytes_needed(step: jax.stages.Compiled, devices: Devices) -> int:
    """Return the bytes that a program needs on a device, arguments included.

    Return 0 if the backend does not say.
    """
    return sum(_planned_bytes(step, devices))


def _planned_bytes(step: jax.stages.Compiled, devices: Devices) -> tuple[int, int]:
    """Return bytes of arguments and results, and bytes needed while a program runs.

    CPU devices share the machine's memory, so the bytes of all of them are added.
    """
    plan = planned_memory(step)
    if plan is None:
        return 0, 0
    sharing = devices.local_count if jax.default_backend() == "cpu" else 1
    return plan.resident * sharing, plan.temporary * sharing


def _candidates(batch_size: int, least: int, devices: int) -> Iterator[int]:
    """Yield numbers of micro-batches: `least`, then for powers of two of images."""
    yield least
    each = 1 << (batch_size // devices).bit_length()  # images per device
    while each:
        images = each * devices
        if images < batch_size // least and batch_size % images == 0:
            yield batch_size // images
        each //= 2


def _ways_out(config: Config) -> str:
    """Return what else to change, without settings that already save memory."""
    ways = [
        "lower config.train.batch_size",
        "raise config.optim.accumulate",
        "set config.train.remat=full" if config.train.remat != "full" else "",
        "set config.dtype=bfloat16" if config.dtype != "bfloat16" else "",
        "shard parameters by config.parallel.fsdp" if jax.device_count() > 1 else "",
        "or use a smaller model",
    ]
    return ", ".join(filter(None, ways))
