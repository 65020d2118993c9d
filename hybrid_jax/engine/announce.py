"""What a run tells about itself before it begins: in words, and as a picture."""

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from hybrid_jax.data import Splits
from hybrid_jax.data.augment import augment
from hybrid_jax.data.order import TrainingOrder
from hybrid_jax.engine.console import Reporter
from hybrid_jax.engine.metric_writers import image_grid
from hybrid_jax.engine.programs import Trainer
from hybrid_jax.engine.setup import Plan
from hybrid_jax.parallel.mesh import Devices
from hybrid_jax.runtime import jit_once
from hybrid_jax.training import optim
from hybrid_jax.training.bundles import unbundled
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Task

IMAGES_SHOWN = 64
LEAST_PIXELS = 512  # a side of their picture, so that small images can be seen


def announce(
    reporter: Reporter,
    config: ConfigDict,
    devices: Devices,
    splits: Splits,
    plan: Plan,
    task: Task,
    shapes: TrainState,
) -> None:
    """Says what is trained on what; the log also lists every parameter."""
    model, device = task.model, devices.mesh.devices.flat[0]
    height, width = task.image_size
    maps = ", ".join(f"{h}x{w}" for h, w in model.map_sizes)
    parameters = sum(x.size for x in jax.tree.leaves(shapes.params))
    reporter.say(
        f"{splits.name}: {len(splits.train):,} images to train on, "
        f"{len(splits.test):,} to test on, {len(splits.classes)} classes, "
        + ("on the device" if splits.train.resident else "streamed")
    )
    for note in splits.notes:
        reporter.say(note)
    reporter.say(
        f"{config.model.name}: {parameters:,} parameters, {height}x{width} px through "
        f"maps of {maps}"
    )
    if config.freeze:
        still = jax.tree.leaves(optim.frozen(shapes.params, config.freeze))
        sizes = [x.size for x in jax.tree.leaves(shapes.params)]
        kept = sum(size for size, is_kept in zip(sizes, still, strict=True) if is_kept)
        reporter.say(f"{kept:,} of its parameters are frozen")
    reporter.say(
        f"{plan.total_steps:,} steps of {plan.batch_size} images, in "
        f"{np.dtype(model.dtype).name} on {_several(devices)}{device.device_kind} "
        f"({device.platform}){_shares(config, devices)}"
    )
    params = jax.eval_shape(unbundled, shapes.params)
    overview = parameter_overview.get_parameter_overview(params, include_stats=False)
    reporter.note(f"parameters\n{overview}")


def _several(devices: Devices) -> str:
    return f"{devices.shared_by} x " if devices.shared_by > 1 else ""


def _shares(config: ConfigDict, devices: Devices) -> str:
    """How the devices share the work; nothing of one."""
    if devices.shared_by == 1:
        return ""
    hosts = f" of {devices.hosts} hosts" if devices.hosts > 1 else ""
    parts = config.parallel.fsdp
    cut = f", parameters cut over {parts}" if parts > 1 else ""
    return f"{hosts}, by {config.parallel.kind}{cut}"


def readiness(trainer: Trainer, seconds: float) -> str:
    """What the time to the end of the first step was spent on."""
    program = trainer.program
    compiled = "read from the cache" if program.cached else "compiled"
    return (
        f"ready in {seconds:.1f} s: traced in {program.traced:.1f} s, {compiled} in "
        f"{program.compiled:.1f} s, first step {trainer.first:.1f} s"
    )


def augmented_images(splits: Splits, task: Task, config: ConfigDict) -> np.ndarray:
    """Images of the first batch, each augmented once: a grid, uint8 `[H, W, C]`."""
    order = TrainingOrder(
        splits.train.labels,
        config.train.batch_size,
        config.seed,
        config.train.sampling,
    )
    rows = order(0)[:IMAGES_SHOWN]
    images = splits.train.images[rows]
    targets = jax.nn.one_hot(splits.train.labels[rows], len(splits.classes))
    extents = splits.train.extents
    images, _ = jit_once(augment, static_argnums=(3, 4, 6))(
        jax.random.key(config.seed),
        images,
        targets,
        task.augmentation,
        task.image_size,
        None if extents is None else extents[rows],
        task.fit,
    )
    grid = image_grid(np.asarray(images))
    scale = max(1, LEAST_PIXELS // max(grid.shape))
    return grid.repeat(scale, 0).repeat(scale, 1)
