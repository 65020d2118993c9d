"""Whether a training step fits into memory, told from its program before it runs.

XLA plans a program's memory when it compiles it. Where a step is too large,
`config.train.micro_batch=auto` finds the largest power of two of images that fit at a
time, and gradients are added up; `off` refuses it with what would fit.
"""

from collections.abc import Callable, Iterator

import jax

from hybrid_jax.config.schema import Config
from hybrid_jax.data.memory_budget import device_memory
from hybrid_jax.engine.experiment import Experiment
from hybrid_jax.engine.programs import step_compiler
from hybrid_jax.errors import UserError, megabytes
from hybrid_jax.parallel.mesh import Devices

AUTO = "auto"
# Of the memory, for a step that is looked for; evaluation and images on their way
# need some too.
SHARE = 0.9
FEW = 16  # images, below which the statistics of batch norms are noisy

Compile = Callable[[int], jax.stages.Compiled]  # a step, from its micro-batches


def pieces_that_fit(
    experiment: Experiment,
    step: jax.stages.Compiled,
    resumed: bool,
    say: Callable[[str], None],
) -> int:
    """How many micro-batches a step takes, all hosts the same.

    Args:
      experiment: with as many as its config asks for.
      step: its training program, as it is about to run.
      resumed: whether the run has begun, and keeps to its micro-batches.
      say: is told what takes so long, and what was found.

    Raises:
      UserError: the step is too large, and may not or cannot be cut up.
    """
    config, devices = experiment.config, experiment.devices
    pieces, takes = config.optim.accumulate, bytes_of(step, devices)
    if experiment.hosts.largest(takes / device_memory()) > 1:
        say("a step is larger than the memory: compiling, to see what fits")
        compile_step = step_compiler(
            devices,
            experiment.task,
            experiment.shapes,
            experiment.splits.train,
            config,
        )
        fitting = fewest_pieces(config, compile_step, devices)
        if resumed or config.train.micro_batch != AUTO or fitting is None:
            raise too_large(config, devices, takes, fitting, resumed)
        pieces = int(experiment.hosts.largest(fitting))
        say(
            f"{config.train.batch_size // pieces} of the {config.train.batch_size} "
            "images of a step fit at a time: their gradients are added up "
            "(config.train.micro_batch)"
        )
    images = config.train.batch_size // pieces
    if images < FEW and jax.tree.leaves(experiment.shapes.batch_stats):
        say(
            f"batch norms see {images} images at a time, and below {FEW} their "
            "statistics are noisy: raise config.train.batch_size, or have more memory"
        )
    return pieces


def too_large(
    config: Config,
    devices: Devices,
    takes: int,
    pieces: int | None,
    resumed: bool,
) -> UserError:
    """The error of a step that is larger than the memory."""
    there = (
        f"a step takes {megabytes(takes)} of a device's {megabytes(device_memory())}"
    )
    if resumed:
        return UserError(
            f"{there}, and this run has begun with these micro-batches: continue it on "
            "a larger machine, or start another with --config.init_from"
        )
    if pieces is None:
        return UserError(
            f"{there}, and not even a micro-batch of {devices.shared_by} fits: "
            f"{_ways_out(config)}"
        )
    return UserError(
        f"{there}: {config.train.batch_size // pieces} images at a time would fit, "
        f"which --config.train.micro_batch=auto takes; or {_ways_out(config)}"
    )


def bytes_of(step: jax.stages.Compiled, devices: Devices) -> int:
    """What a program needs of a device, arguments included; 0 if it does not say."""
    return sum(_plan(step, devices))


def _plan(step: jax.stages.Compiled, devices: Devices) -> tuple[int, int]:
    """Bytes that a program keeps, and bytes that it needs while it runs.

    Devices that share the machine's memory each count with all of them.
    """
    plan = step.memory_analysis()
    if plan is None:
        return 0, 0
    kept = plan.argument_size_in_bytes + plan.output_size_in_bytes
    kept -= plan.alias_size_in_bytes
    sharing = devices.here if jax.default_backend() == "cpu" else 1
    return kept * sharing, plan.temp_size_in_bytes * sharing


def fewest_pieces(
    config: Config, compile_step: Compile, devices: Devices
) -> int | None:
    """The least number of micro-batches of which each fits, or None.

    Args:
      config: whose `optim.accumulate` is the least that is tried.
      compile_step: see `Compile`.
      devices: that share a micro-batch.
    """
    room, batch = SHARE * device_memory(), config.train.batch_size
    kept, of_an_image = 0, 0.0  # bytes, at the least
    for pieces in _candidates(batch, config.optim.accumulate, devices.shared_by):
        images = batch // pieces
        if kept + of_an_image * images > room:
            continue  # nothing need be compiled to see that
        step = compile_step(pieces)
        if bytes_of(step, devices) <= room:
            return pieces
        kept, temporary = _plan(step, devices)
        of_an_image = temporary / images  # more, where there are fewer
    return None


def _candidates(batch: int, least: int, devices: int) -> Iterator[int]:
    """Numbers of micro-batches: `least`, then of powers of two of images a device."""
    yield least
    each = 1 << (batch // devices).bit_length()
    while each:
        if each * devices < batch // least and batch % (each * devices) == 0:
            yield batch // (each * devices)
        each //= 2


def _ways_out(config: Config) -> str:
    """What to change, but for what is at its best already."""
    ways = [
        "lower config.train.batch_size",
        "raise config.optim.accumulate",
        "take config.train.remat=full" if config.train.remat != "full" else "",
        "config.dtype=bfloat16" if config.dtype != "bfloat16" else "",
        "cut parameters by config.parallel.fsdp" if jax.device_count() > 1 else "",
        "or take a smaller model",
    ]
    return ", ".join(filter(None, ways))
