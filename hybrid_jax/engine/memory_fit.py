"""Find out from a training step's program whether it fits into memory.

XLA plans a program's memory when it compiles it. Where a step is too large,
`config.train.micro_batch=auto` finds the largest power of two of images that fit at a
time, and gradients are added up; `off` refuses the step and says what would fit.
"""

from collections.abc import Callable, Iterator

import jax

from hybrid_jax.config.schema import Config
from hybrid_jax.data.memory_budget import device_memory
from hybrid_jax.engine.experiment import Experiment
from hybrid_jax.engine.programs import step_compiler
from hybrid_jax.errors import OutOfMemory, UserError, megabytes
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.runtime import planned_memory

AUTO = "auto"
# Of the memory, for a step that is looked for; evaluation and images on their way
# need some too.
SHARE = 0.9
FEW_IMAGES = 16  # below which the statistics of batch norms are noisy

Compile = Callable[[int], jax.stages.Compiled]  # a step, from its micro-batches


def find_micro_batches(
    experiment: Experiment,
    step: jax.stages.Compiled,
    resumed: bool,
    say: Callable[[str], None],
) -> int:
    """Return how many micro-batches a step takes, the same number on all hosts.

    Args:
      experiment: with as many as its config asks for.
      step: its training program, as it is about to run.
      resumed: whether the run has begun, and keeps to its micro-batches.
      say: is told what takes so long, and what was found.

    Raises:
      UserError: the step is too large, and may not or cannot be cut up.
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
    """Return the least number of micro-batches of which each fits; None if none does.

    Args:
      batch_size: images of a step.
      least: number of micro-batches that is tried first.
      compile_step: see `Compile`.
      devices: that share a micro-batch.
    """
    budget = SHARE * device_memory()
    resident, of_an_image = 0, 0.0  # bytes, at the least
    for count in _candidates(batch_size, least, devices.count):
        images = batch_size // count
        if resident + of_an_image * images > budget:
            continue  # nothing need be compiled to see that
        step = compile_step(count)
        resident, temporary = _planned_bytes(step, devices)
        if resident + temporary <= budget:
            return count
        of_an_image = temporary / images  # more, where there are fewer
    return None


def too_large(
    config: Config,
    devices: Devices,
    needed: int,
    micro_batches: int | None,
    resumed: bool,
) -> UserError:
    """Return the error of a step that is larger than the memory.

    Args:
      config: of the experiment.
      devices: that share a micro-batch.
      needed: bytes of a device.
      micro_batches: that would fit; None if none would.
      resumed: whether the run has begun.
    """
    available = megabytes(device_memory())
    facts = f"a step takes {megabytes(needed)} of a device's {available}"
    if resumed:
        return UserError(
            f"{facts}, and this run has begun with these micro-batches: continue it on "
            "a larger machine, or start another with --config.init_from"
        )
    if micro_batches is None:
        return OutOfMemory(
            f"{facts}, and not even a micro-batch of {devices.count} fits: "
            f"{_ways_out(config)}"
        )
    return OutOfMemory(
        f"{facts}: {config.train.batch_size // micro_batches} images at a time would "
        f"fit, which --config.train.micro_batch=auto takes; or {_ways_out(config)}"
    )


def bytes_needed(step: jax.stages.Compiled, devices: Devices) -> int:
    """Return what a program needs of a device, arguments included.

    It is 0 where the backend does not say.
    """
    return sum(_planned_bytes(step, devices))


def _planned_bytes(step: jax.stages.Compiled, devices: Devices) -> tuple[int, int]:
    """Return bytes of arguments and results, and bytes needed while a program runs.

    Devices that share the machine's memory each count with all of them.
    """
    plan = planned_memory(step)
    if plan is None:
        return 0, 0
    sharing = devices.local_count if jax.default_backend() == "cpu" else 1
    return plan.resident * sharing, plan.temporary * sharing


def _candidates(batch_size: int, least: int, devices: int) -> Iterator[int]:
    """Yield numbers of micro-batches: `least`, then of powers of two of images."""
    yield least
    each = 1 << (batch_size // devices).bit_length()  # images a device
    while each:
        images = each * devices
        if images < batch_size // least and batch_size % images == 0:
            yield batch_size // images
        each //= 2


def _ways_out(config: Config) -> str:
    """List what to change, but for what is at its best already."""
    ways = [
        "lower config.train.batch_size",
        "raise config.optim.accumulate",
        "take config.train.remat=full" if config.train.remat != "full" else "",
        "config.dtype=bfloat16" if config.dtype != "bfloat16" else "",
        "cut parameters by config.parallel.fsdp" if jax.device_count() > 1 else "",
        "or take a smaller model",
    ]
    return ", ".join(filter(None, ways))
