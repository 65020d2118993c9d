"""What a run tells about itself before it begins: in words, and as a picture."""

import jax
import numpy as np
from clu import parameter_overview

from hybrid_jax.augment import augment
from hybrid_jax.config.schema import ParallelConfig
from hybrid_jax.engine.console import Reporter
from hybrid_jax.engine.experiment import Experiment
from hybrid_jax.engine.metric_writers import image_grid
from hybrid_jax.engine.programs import Trainer
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.runtime import jit_once
from hybrid_jax.training.freezing import frozen_mask
from hybrid_jax.training.packed_params import unpack

USES = {
    "train": "images to train on",
    "validation": "to choose by",
    "test": "to test on",
}
IMAGES_SHOWN = 64
LEAST_PIXELS = 512  # a side of their picture, so that small images can be seen


def announce(console: Reporter, experiment: Experiment) -> None:
    """Says what is trained on what; the log also lists every parameter."""
    config, splits, devices = experiment.config, experiment.splits, experiment.devices
    plan, model, shapes = experiment.plan, experiment.task.model, experiment.shapes
    device = devices.mesh.devices.flat[0]
    height, width = experiment.task.image_size
    maps = ", ".join(f"{h}x{w}" for h, w in model.map_sizes)
    parameters = sum(x.size for x in jax.tree.leaves(shapes.params))
    counts = [f"{len(split):,} {USES[name]}" for name, split in splits.items()]
    console.say(
        f"{splits.name}: {counts[0]}, {', '.join([*counts[1:], ''])}"
        f"{len(splits.classes)} classes, "
        + ("on the device" if splits.train.resident else "streamed")
    )
    for note in splits.notes:
        console.say(note)
    if splits.validation is None:
        console.say(
            "no validation split (config.data.validation=0): the last weights count"
        )
    console.say(
        f"{config.model.name}: {parameters:,} parameters, {height}x{width} px through "
        f"maps of {maps}"
    )
    if config.freeze:
        still = jax.tree.leaves(frozen_mask(shapes.params, config.freeze))
        sizes = [x.size for x in jax.tree.leaves(shapes.params)]
        kept = sum(size for size, is_kept in zip(sizes, still, strict=True) if is_kept)
        console.say(f"{kept:,} of its parameters are frozen")
    console.say(
        f"{plan.total_steps:,} steps of {plan.batch_size} images, in "
        f"{np.dtype(model.dtype).name} on {_several(devices)}{device.device_kind} "
        f"({device.platform}){_shares(config.parallel, devices)}"
    )
    params = jax.eval_shape(unpack, shapes.params)
    overview = parameter_overview.get_parameter_overview(params, include_stats=False)
    console.note(f"parameters\n{overview}")


def _several(devices: Devices) -> str:
    return f"{devices.count} x " if devices.count > 1 else ""


def _shares(config: ParallelConfig, devices: Devices) -> str:
    """How the devices share the work; nothing of one."""
    if devices.count == 1:
        return ""
    hosts = f" of {devices.process_count} hosts" if devices.process_count > 1 else ""
    parts = config.fsdp
    cut = f", parameters cut over {parts}" if parts > 1 else ""
    return f"{hosts}, by {config.kind}{cut}"


def readiness(trainer: Trainer, seconds: float) -> str:
    """What the time to the end of the first step was spent on."""
    program = trainer.program
    if program.kept:
        return (
            f"ready in {seconds:.1f} s: programs kept in memory, first step "
            f"{trainer.first:.1f} s"
        )
    compiled = "read from the cache" if program.cached else "compiled"
    return (
        f"ready in {seconds:.1f} s: traced in {program.traced:.1f} s, {compiled} in "
        f"{program.compiled:.1f} s, first step {trainer.first:.1f} s"
    )


def augmented_images(experiment: Experiment) -> np.ndarray:
    """Images of the first batch, each augmented once: a grid, uint8 `[H, W, C]`."""
    config, task = experiment.config, experiment.task
    train, classes = experiment.splits.train, len(experiment.splits.classes)
    rows = experiment.training_order()(0)[:IMAGES_SHOWN]
    extents = None if train.extents is None else train.extents[rows]
    images, _ = jit_once(augment, static_argnums=(3, 4, 6))(
        jax.random.key(config.seed),
        train.images[rows],
        jax.nn.one_hot(train.labels[rows], classes),
        task.augmentation,
        task.image_size,
        extents,
        task.fit,
    )
    grid = image_grid(np.asarray(images))
    scale = max(1, LEAST_PIXELS // max(grid.shape))
    return grid.repeat(scale, 0).repeat(scale, 1)
