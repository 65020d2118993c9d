"""Compile an experiment's programs for chips that this machine lacks; count bytes."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from hybrid_jax import data
from hybrid_jax.chips.specs import Chip
from hybrid_jax.chips.topology import Target, describe_devices
from hybrid_jax.chips.traffic import COLLECTIVES, Kernel, count_kernels
from hybrid_jax.config.schema import Config
from hybrid_jax.data.loader import create_loader
from hybrid_jax.data.memory_budget import SHARE
from hybrid_jax.errors import UserError, first_line, is_out_of_memory
from hybrid_jax.models.cost import cost
from hybrid_jax.ops.backend import compiling_for
from hybrid_jax.profiling.flops import count_step_flops
from hybrid_jax.profiling.hlo import parse_program
from hybrid_jax.programs.compile import Program, compiler_threads
from hybrid_jax.programs.experiment import Experiment, set_up_process
from hybrid_jax.programs.programs import training_program
from hybrid_jax.runtime import PlannedMemory, planned_memory

SHOWN_OPERATIONS = 40


class Compiled(NamedTuple):
    """A program that was compiled for a chip.

    Attributes:
      text: text of the program.
      memory: bytes that are planned on each chip.
      seconds: time that it took to compile.
      batch_size: images of a step, over all chips.
      flops: FLOPs of products in a step, over all chips.
    """

    text: str
    memory: PlannedMemory
    seconds: float
    batch_size: int
    flops: int


def measure_target(
    config: Config,
    target: Target,
    report_progress: Callable[[str], None] = lambda activity: None,
) -> dict:
    """Compile an experiment's training and evaluation steps; count bytes and FLOPs.

    Args:
      config: a validated config.
      target: chips to compile for.
      report_progress: called with the name of each activity, as it begins.

    Returns:
      What `hybrid-jax benchmark --target --json` writes.

    Raises:
      UserError: there is no compiler for the chips, or no step fits into their memory.
    """
    if config.parallel.kind == "pmap":
        raise UserError(
            "config.parallel.kind=pmap compiles for devices that are here: take "
            "--config.parallel.kind=jit with --target"
        )
    devices = describe_devices(target)
    resolved = {"dtype": "bfloat16"} if config.dtype == "auto" else {}
    config = config.replace({"compilation_cache": False} | resolved)
    with compiling_for(devices):
        report_progress("loading data")
        config = set_up_process(config)
        splits = _load(config, target.chip)
        report_progress(f"compiling for {target}")
        experiment, programs = _compile_what_fits(Experiment(config, splits))
        numbers = {
            name: _count(program, target.chip, config.dtype, experiment.devices.count)
            for name, program in programs.items()
        }
    return {
        "target": str(target),
        "device": target.chip.device_kind,
        "devices": experiment.devices.count,
        "model": config.model.name,
        "parameters": sum(x.size for x in jax.tree.leaves(experiment.shapes.params)),
        "image_size": list(experiment.task.image_size),
        "asked_batch_size": config.train.batch_size,
        "batch_size": experiment.plan.batch_size,
        "dtype": config.dtype,
        "data": splits.name,
        "loader": "resident" if splits.train.resident else "streamed",
        "jax": jax.__version__,
        **numbers,
    }


def _load(config: Config, chip: Chip) -> data.Splits:
    """Load a data set as a run on the chip would: resident, or streamed."""
    splits = data.load(config.data)
    size = sum(math.prod(split.shape) for split in splits.values())
    loader = "resident" if size <= SHARE * chip.memory else "stream"
    if config.data.loader != "auto" or splits.train.resident == (loader == "resident"):
        return splits
    return data.load(config.replace({"data.loader": loader}).data)


def _compile_what_fits(
    experiment: Experiment,
) -> tuple[Experiment, dict[str, Compiled]]:
    """Compile the programs, with the batches halved until they fit.

    Raises:
      UserError: no batch fits.
    """
    while True:
        try:
            return experiment, _compile(experiment)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error):
                raise
            config = experiment.config
            least = experiment.devices.count * config.optim.accumulate
            half = config.train.batch_size // 2 // least * least
            if not half:
                raise UserError(
                    f"not even a step of {least} images fits: {first_line(error)}"
                ) from None
            evaluated = max(min(config.train.eval_batch_size // 2, half), 1)
            halves = {"train.batch_size": half, "train.eval_batch_size": evaluated}
            experiment = Experiment(config.replace(halves), experiment.splits)


def _compile(experiment: Experiment) -> dict[str, Compiled]:
    """Compile the programs of a run, as `engine.fit` does."""
    devices, splits = experiment.devices, experiment.splits
    order, task = experiment.training_order(), experiment.task
    loader = create_loader(splits.train, order, order.batch_size, devices=devices)
    with compiler_threads() as threads:
        train = training_program(devices, task, experiment.shapes, loader)
        train.compile(threads)
        evaluator = experiment.evaluator(threads)
        flops = count_step_flops(
            task,
            experiment.shapes,
            order.batch_size,
            splits.channels,
            experiment.config.optim,
        )
        found = {"train": _read(train, order.batch_size, flops)}
        if evaluator is not None:
            flops_per_image = 2 * cost(experiment.model, splits.channels).macs
            size = evaluator.batch_size
            found["eval"] = _read(evaluator.program, size, flops_per_image * size)
    return found


def _read(program: Program, batch_size: int, flops: int) -> Compiled:
    compiled = program.wait()
    text, memory = compiled.as_text() or "", planned_memory(compiled)
    assert memory is not None  # only a CPU may have no plan
    return Compiled(text, memory, program.compile_seconds, batch_size, flops)


def _count(program: Compiled, chip: Chip, dtype: str, chips: int) -> dict[str, Any]:
    """Return the numbers of a program: memory, traffic, and the bounds that follow."""
    parsed = parse_program(program.text)
    kernels = count_kernels(parsed)
    moved = sum(kernel.total for kernel in kernels)
    by_memory = moved / chip.bandwidth
    by_arithmetic = program.flops / chips / chip.flops(dtype)
    images = program.batch_size / chips
    memory = program.memory
    room = max(chip.memory - memory.resident, 0)
    return {
        "batch_size": program.batch_size,
        "compile_seconds": program.seconds,
        "memory": memory._asdict()
        | {
            "needed": sum(memory),
            "available": chip.memory,
            "largest_batch": int(room * images / max(memory.temporary, 1)) * chips,
        },
        "kernels": sum(kernel.runs for kernel in kernels),
        "bytes": moved,
        "bytes_an_image": moved / images,
        "padding": sum(
            kernel.total - kernel.runs * kernel.numbers for kernel in kernels
        ),
        "layout_bytes": sum(kernel.total for kernel in kernels if kernel.is_layout),
        "flops": program.flops,
        "seconds_by_memory": by_memory,
        "seconds_by_arithmetic": by_arithmetic,
        "images_per_second": program.batch_size / max(by_memory, by_arithmetic),
        "parts": _table(kernels, _part),
        "kinds": _table(kernels, _kind),
        "operations": _table(kernels, _operation)[:SHOWN_OPERATIONS],
        "collectives": _table([k for k in kernels if k.kind in COLLECTIVES], _kind),
    }


def _table(kernels: Sequence[Kernel], group: Callable[[Kernel], str]) -> list[dict]:
    """Return bytes and number of kernels of each group, the largest first."""
    rows: dict[str, dict[str, Any]] = {}
    for kernel in kernels:
        name = group(kernel)
        row = rows.setdefault(name, {"name": name, "bytes": 0, "kernels": 0})
        row["bytes"] += kernel.total
        row["kernels"] += kernel.runs
    return sorted(rows.values(), key=lambda row: -row["bytes"])


def _kind(kernel: Kernel) -> str:
    return kernel.kind


def _part(kernel: Kernel) -> str:
    return f"{kernel.instruction.part} {kernel.instruction.direction}"


def _operation(kernel: Kernel) -> str:
    """Return kind and source of a kernel, without the numbers of blocks."""
    path = re.sub(r"_block\d+", "", kernel.instruction.module_path)
    return f"{kernel.kind} {path} {kernel.instruction.direction}"
