"""Whether a training step fits into memory, told from its program before it runs.

XLA plans a program's memory when it compiles it. So a step that is too large is refused
with what would fit, and `config.train.micro_batch=auto` finds that by itself: the
largest power of two of images at a time, whose gradients are added up.
"""

from collections.abc import Callable, Iterator

import jax
from ml_collections import ConfigDict

from hybrid_jax.config import flatten, unflatten
from hybrid_jax.data.memory import memory
from hybrid_jax.engine.run_folder import Workdir
from hybrid_jax.errors import UserError, megabytes
from hybrid_jax.parallel.mesh import Devices

AUTO = "auto"
# Of the memory, for a step that is looked for; evaluation and images on their way
# need some too.
SHARE = 0.9

Compile = Callable[[int], jax.stages.Compiled]  # a step, from its micro-batches


def adopted(config: ConfigDict, folder: Workdir) -> ConfigDict:
    """The config with the micro-batches that its run, which has begun, takes."""
    if config.train.micro_batch != AUTO:
        return config
    return accumulating(config, folder.read_config()["optim.accumulate"])


def pieces_that_fit(config: ConfigDict, compile_step: Compile, devices: Devices) -> int:
    """As few micro-batches as memory allows.

    Args:
      config: whose `optim.accumulate` is the least.
      compile_step: see `Compile`.
      devices: that share a micro-batch.

    Raises:
      UserError: not even the smallest one fits.
    """
    pieces = _fitting(config, compile_step, devices)
    if pieces is None:
        raise UserError(
            f"not even a micro-batch of {devices.shared_by} fits into the "
            f"{megabytes(memory())} of a device: {_ways_out(config)}"
        )
    return pieces


def check(
    config: ConfigDict,
    step: jax.stages.Compiled,
    compile_step: Compile,
    devices: Devices,
    say: Callable[[str], None],
) -> None:
    """Refuses a step that is larger than the memory.

    Args:
      config: of the step.
      step: as it is about to run.
      compile_step, devices: as in `pieces_that_fit`.
      say: is told what takes so long, if it is too large.

    Raises:
      UserError: names the bytes, how many images would fit, and all other ways out.
    """
    takes = bytes_of(step, devices)
    if takes <= memory():
        return
    say("a step is larger than the memory: compiling, to see what would fit")
    pieces = _fitting(config, compile_step, devices)
    batch = config.train.batch_size
    fits = (
        f"{batch // pieces} images at a time would fit, which "
        "--config.train.micro_batch=auto takes; or "
        if pieces
        else ""
    )
    raise UserError(
        f"a step takes {megabytes(takes)} of a device's "
        f"{megabytes(memory())}: {fits}{_ways_out(config)}"
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


def _fitting(config: ConfigDict, compile_step: Compile, devices: Devices) -> int | None:
    """The least number of micro-batches that fits, or None."""
    room, batch = SHARE * memory(), config.train.batch_size
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


def accumulating(config: ConfigDict, pieces: int) -> ConfigDict:
    """The config with so many micro-batches."""
    return unflatten(flatten(config) | {"optim.accumulate": pieces})


def _ways_out(config: ConfigDict) -> str:
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
