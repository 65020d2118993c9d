"""Report what a run is about to do: its data, model, schedule and devices."""

import jax
import numpy as np
from clu import parameter_overview

from hybrid_jax.console import Reporter
from hybrid_jax.data import Splits
from hybrid_jax.data.dataset import images_of_split
from hybrid_jax.data.split_notes import Expected
from hybrid_jax.engine.metric_writers import image_grid
from hybrid_jax.programs.augmentation import IMAGES_SHOWN, augmented_rows
from hybrid_jax.programs.experiment import Experiment
from hybrid_jax.programs.programs import Trainer
from hybrid_jax.training import freezing
from hybrid_jax.training.packed_params import unpack

PICTURE_SIDE = 512  # pixels; small pictures are enlarged up to this, to be visible


def report_startup(console: Reporter, experiment: Experiment) -> None:
    """Print data, model and schedule of a run; list all parameters in its log.

    Args:
      console: prints the lines.
      experiment: the run that is about to begin.
    """
    config, splits, plan = experiment.config, experiment.splits, experiment.plan
    model, params = experiment.task.model, experiment.shapes.params
    counts = [
        f"{len(split):,} {images_of_split(name)}" for name, split in splits.items()
    ]
    storage = "stored on" if splits.train.resident else "streamed to"
    console.say(
        f"{splits.name}: {', '.join(counts)}, {len(splits.classes)} classes, "
        f"{storage} the device"
    )
    if config.data.workers and splits.train.resident:
        console.notice(
            f"config.data.workers={config.data.workers} has no effect: these images "
            "are in memory"
        )
    tell_notes(console, splits)
    if splits.validation is None:
        console.say(
            "no validation split (config.data.validation=0): the last weights are "
            "tested"
        )
    height, width = experiment.task.image_size
    maps = ", ".join(f"{h}x{w}" for h, w in model.map_sizes)
    sizes = [x.size for x in jax.tree.leaves(params)]
    console.say(
        f"{config.model.name}: {sum(sizes):,} parameters, {height}x{width} px images, "
        f"feature maps of {maps}"
    )
    if config.freeze:
        frozen = jax.tree.leaves(freezing.frozen_mask(params, config.freeze))
        console.say(
            f"{np.dot(sizes, frozen):,} of {sum(sizes):,} parameters are frozen"
        )
    console.say(
        f"{plan.total_steps:,} steps of {plan.batch_size:,} images in "
        f"{np.dtype(model.dtype).name} on {_hardware(experiment)}"
    )
    overview = parameter_overview.get_parameter_overview(
        jax.eval_shape(unpack, params), include_stats=False
    )
    console.note(f"parameters\n{overview}")


def tell_notes(console: Reporter, splits: Splits) -> None:
    """Print the notes on a data set, as notices if the config does not ask for them."""
    for note in splits.notes:
        (console.say if isinstance(note, Expected) else console.notice)(note)


def _hardware(experiment: Experiment) -> str:
    """Name the devices, and how they share the work if there are several."""
    devices, parallel = experiment.devices, experiment.config.parallel
    device = devices.mesh.devices.flat[0]
    name = device.device_kind
    if device.platform not in name:
        name += f" ({device.platform})"
    if devices.count == 1:
        return name
    hosts = f" of {devices.process_count} hosts" if devices.process_count > 1 else ""
    shards = f", parameters sharded over {parallel.fsdp}" if parallel.fsdp > 1 else ""
    return f"{devices.count} x {name}{hosts}, by {parallel.kind}{shards}"


def startup_times(trainer: Trainer, seconds: float) -> str:
    """Return a line about the time from the start to the end of the first dispatch.

    Args:
      trainer: trainer after its first dispatch.
      seconds: time since the start.
    """
    program = trainer.program
    if program.reused:
        work = "reused compiled programs"
    else:
        source = "read from the cache" if program.from_disk_cache else "compiled"
        work = (
            f"traced in {program.trace_seconds:.1f} s, {source} in "
            f"{program.compile_seconds:.1f} s"
        )
    return f"ready in {seconds:.1f} s: {work}, first step {trainer.first:.1f} s"


def augmented_images(experiment: Experiment) -> np.ndarray:
    """Augment images of the first batch, and return a grid of them.

    Args:
      experiment: gives the training split and the augmentation.

    Returns:
      Up to `IMAGES_SHOWN` images, uint8 `[H, W, C]`.
    """
    config, task = experiment.config, experiment.task
    train, classes = experiment.splits.train, len(experiment.splits.classes)
    rows = experiment.training_order()(0)[:IMAGES_SHOWN]
    images = augmented_rows(config, train, rows, task.image_size, classes)
    grid = image_grid(images)
    scale = max(1, PICTURE_SIDE // max(grid.shape))
    return grid.repeat(scale, 0).repeat(scale, 1)
