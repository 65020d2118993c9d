"""From a config and a data set to what is trained."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hybrid_jax.config import flatten, unflatten
from hybrid_jax.data import Splits
from hybrid_jax.data.augment import Augmentation
from hybrid_jax.errors import UserError
from hybrid_jax.fields import FIELDS
from hybrid_jax.models import create_model
from hybrid_jax.models.counterpart import Model
from hybrid_jax.models.table import MODELS, ViTRow
from hybrid_jax.models.vit import ViT
from hybrid_jax.parallel.hosts import Hosts
from hybrid_jax.parallel.mesh import Devices, create_devices
from hybrid_jax.training import optim
from hybrid_jax.training.state import TrainState, create_state
from hybrid_jax.training.step import Task


class Plan:
    """How long a run is, in steps and in epochs."""

    def __init__(self, config: ConfigDict, images: int):
        self.images = images
        self.batch_size = config.train.batch_size
        self.epochs = config.train.epochs
        self.eval_every = config.train.eval_every
        self.total_steps = self.step_of(self.epochs)

    def step_of(self, epoch: float) -> int:
        """Steps after which `epoch` passes over the split are complete."""
        return -int(-epoch * self.images // self.batch_size)

    def epoch_of(self, step: int) -> float:
        """Passes over the split after a step."""
        return min(step * self.batch_size / self.images, self.epochs)

    def is_evaluated(self, step: int) -> bool:
        """Whether a step is followed by an evaluation."""
        return step > 0 and self.next_evaluation(step - 1) == step

    def next_evaluation(self, step: int) -> int:
        """The first step after `step` that is followed by an evaluation."""
        epoch = self.eval_every
        while self.step_of(epoch) <= step:
            epoch += self.eval_every
        return min(self.step_of(epoch), self.total_steps)


def build_task(config: ConfigDict, splits: Splits, plan: Plan) -> Task:
    """The network, its optimiser and its inputs, as a settled config says.

    Mean and deviation are shapes alone, enough to compile; see `with_statistics`.

    Raises:
      UserError: images of a size that the strides cannot serve, or too few steps.
    """
    size = config.data.image_size or splits.image_size
    try:
        model = create_model(
            **_changed_fields(config),
            num_classes=len(splits.classes),
            image_size=tuple(map(int, size)),
            dtype=jnp.dtype(config.dtype),
            scan=config.train.scan,
            remat=config.train.remat,
        )
    except ValueError as error:
        raise UserError(
            f"{error} (config.model, config.data.image_size={size})"
        ) from None
    levels = jax.ShapeDtypeStruct((splits.channels,), jnp.float32)
    return Task(
        model=model,
        optimiser=optim.adamw(
            learning_rate(config, plan),
            config.optim.weight_decay,
            config.optim.clip_norm,
            config.optim.layer_decay,
            config.freeze,
        ),
        freeze=config.freeze,
        class_weights=optim.CLASS_WEIGHTS[config.optim.class_weights](
            splits.train.labels, len(splits.classes)
        ),
        image_size=model.image_size,
        mean=levels,
        std=levels,
        augmentation=Augmentation(**config.augment),
        fit=config.data.fit,
        label_smoothing=config.optim.label_smoothing,
        ema_decay=config.optim.ema_decay,
        accumulate=config.optim.accumulate,
    )


def with_statistics(task: Task, statistics: tuple[np.ndarray, np.ndarray]) -> Task:
    """The task with mean and deviation float32 `[C]` of the training images."""
    mean, std = statistics
    return task.replace(mean=mean, std=std)


def create_run_devices(config: ConfigDict, hosts: Hosts) -> Devices:
    """The devices of a config.

    Raises:
      UserError: there are fewer, or they cannot share what they are to share.
    """
    kind, count, fsdp = (config.parallel[name] for name in ("kind", "devices", "fsdp"))
    there = jax.device_count()
    if count > there or (hosts.many and count not in (0, there)):
        raise UserError(
            f"config.parallel.devices={count}, and there are {there}: take 0, for all "
            "of them"
        )
    count = count or there
    if kind == "pmap" and fsdp > 1:
        raise UserError(
            f"config.parallel.fsdp={fsdp} means nothing to pmap, which copies "
            "parameters: take config.parallel.kind=jit"
        )
    if count % fsdp:
        raise UserError(
            f"config.parallel.fsdp={fsdp} does not divide the {count} devices"
        )
    batch, pieces = config.train.batch_size, config.optim.accumulate
    if batch % (count * pieces):
        share = count * pieces
        nearest = max(round(batch / share), 1) * share
        times = f" times config.optim.accumulate={pieces}" if pieces > 1 else ""
        raise UserError(
            f"config.train.batch_size={batch} is no multiple of {count} devices"
            f"{times}: take {nearest}, or another config.parallel.devices"
        )
    return create_devices(kind, count, fsdp)


def model_spec(config: ConfigDict, model: Model, channels: int) -> dict:
    """What `create_model` builds this network with anywhere else, fit for JSON.

    Strides and patches are told even where they were chosen by the image's size, since
    they are the network's at any other size too.
    """
    chosen = "patch_size" if isinstance(model, ViT) else "strides"
    return _changed_fields(config) | {
        chosen: getattr(model, chosen),
        "num_classes": model.num_classes,
        "image_size": model.image_size,
        "channels": channels,
    }


def _changed_fields(config: ConfigDict) -> dict[str, typing.Any]:
    """The fields of a config's model that are not the row's own."""
    changed = {
        name: value
        for name, value in config.model.items()
        if name == "name" or value != FIELDS[f"model.{name}"].default
    }
    if isinstance(MODELS[config.model.name], ViTRow):
        changed.pop("strides", None)
    return changed


def learning_rate(config: ConfigDict, plan: Plan):
    """The schedule of a config over a plan's steps.

    Raises:
      UserError: warm-up would take all of them.
    """
    warmup = plan.step_of(config.optim.warmup_epochs)
    if warmup >= plan.total_steps:
        raise UserError(
            f"config.train.batch_size={plan.batch_size} leaves {plan.total_steps} "
            "steps, and warm-up takes them all: lower it, or "
            f"config.optim.warmup_epochs={config.optim.warmup_epochs}"
        )
    return optim.schedule(config.optim.learning_rate, warmup, plan.total_steps)


def settled(config: ConfigDict) -> ConfigDict:
    """The config with what `dtype=auto` is here: bfloat16 but on CPUs.

    This is the one that a run keeps, so that it cannot go on in another precision
    unnoticed. CPUs have no fast products of bfloat16.
    """
    if config.dtype != "auto":
        return config
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return unflatten(flatten(config) | {"dtype": dtype})


def check_frozen(freeze: tuple[str, ...], params: dict) -> None:
    """Refuses patterns that freeze nothing, or leave nothing to train.

    Raises:
      UserError: names the pattern, and the parts of the network.
    """
    for pattern in freeze:
        if not any(jax.tree.leaves(optim.frozen(params, (pattern,)))):
            raise UserError(
                f"config.freeze: no parameter's path has {pattern!r} in it; they begin "
                f"with {', '.join(params)}"
            )
    if all(jax.tree.leaves(optim.frozen(params, freeze))):
        raise UserError(f"config.freeze={freeze} leaves no parameter to train")


def initial_state(task: Task, channels: int, seed: jax.Array) -> TrainState:
    """The state at step 0 for images of `channels`; jit it, or take its shapes."""
    return create_state(
        task.model,
        task.optimiser,
        seed,
        (*task.image_size, channels),
        averaged=task.ema_decay > 0,
        freeze=task.freeze,
    )
