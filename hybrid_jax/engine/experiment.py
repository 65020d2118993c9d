"""From a config and splits to what runs: the one sequence that all commands share.

config = set_up_process(resolve(config))           # checked once, for all
experiment = Experiment(config, splits, hosts)     # devices, schedule, network
training = experiment.start_training(threads, ...) # programs, compiled in threads
"""

import dataclasses
import functools
import typing
from concurrent.futures import Executor

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hybrid_jax import runtime
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.data import Splits
from hybrid_jax.engine.compile import MAX_CACHED_PROGRAMS, Program
from hybrid_jax.engine.programs import Evaluator, Trainer, initialiser
from hybrid_jax.engine.schedule import Plan, warmup_steps
from hybrid_jax.errors import UserError
from hybrid_jax.models import create_model
from hybrid_jax.models.registry import MODELS, ViTRow
from hybrid_jax.models.vit import ViT
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.parallel.mesh import Devices, create_devices
from hybrid_jax.training import optimizers
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Network, Task
from hybrid_jax.weights.timm_models import Model


def set_up_process(config: Config, hosts: Hosts | None = None) -> Config:
    """Set the process up, and resolve what the config leaves to the machine.

    `dtype=auto` becomes bfloat16, or float32 on CPUs, which have no fast products of
    bfloat16. A run keeps the resolved config, so that it cannot go on in another
    precision unnoticed.
    """
    # On CPUs, processes that read programs which one of them compiled wait for ever.
    many = hosts is not None and hosts.many
    cached = not many or jax.default_backend() != "cpu"
    runtime.set_up(config.compilation_cache and cached)
    if config.dtype != "auto":
        return config
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return config.replace({"dtype": dtype})


def setting(config: Config) -> dict:
    """What the hosts of a run must have in common, but for their data."""
    return {
        f"config.{name}": value
        for name, value in config.flat().items()
        if not FIELDS[name].local
    } | {
        "jax": jax.__version__,
        "hybrid_jax": runtime.source_version(),
        "number of devices": jax.local_device_count(),
    }


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A resolved config and its splits, with all that follows from them.

    Attributes:
      config: of `set_up_process`.
      splits: to train on, and to evaluate.
      hosts: that share the run.
    """

    config: Config
    splits: Splits
    hosts: Hosts = dataclasses.field(default_factory=Hosts)

    @functools.cached_property
    def devices(self) -> Devices:
        """The devices that share each batch."""
        return create_run_devices(self.config, self.hosts)

    @functools.cached_property
    def plan(self) -> Plan:
        """How many steps there are, and which are evaluated."""
        return Plan(self.config, len(self.splits.train))

    @functools.cached_property
    def task(self) -> Task:
        """The constants of a training step; mean and deviation are shapes alone."""
        return build_task(self.config, self.splits, self.plan)

    @functools.cached_property
    def initialise(self) -> Program:
        """The program of the state at step 0, traced."""
        program = initialiser(self.devices, self.task, self.splits.channels)
        check_frozen(self.config.freeze, program.shapes.params)
        return program

    @property
    def shapes(self) -> TrainState:
        """The shapes of a state, as it lies on the devices."""
        return self.initialise.shapes

    @functools.cached_property
    def spec(self) -> dict[str, typing.Any]:
        """What `create_model` builds the network with, and its channels."""
        return model_spec(self.config, self.task.model, self.splits.channels)

    def check(self) -> None:
        """Builds what a run needs, before anything is written.

        Raises:
          UserError: devices, images, network and schedule do not go together.
        """
        _ = self.devices, self.plan, self.task

    def accumulating(self, pieces: int) -> "Experiment":
        """The same experiment, each step in so many micro-batches."""
        config = self.config.replace({"optim.accumulate": pieces})
        return Experiment(config, self.splits, self.hosts)

    def trainer(self, threads: Executor) -> Trainer:
        """The training program, which `threads` compile, and its images."""
        return Trainer(
            threads,
            self.devices,
            self.task,
            self.shapes,
            self.splits.train,
            self.config,
        )

    def evaluator(self, threads: Executor) -> Evaluator | None:
        """The program that evaluates any split but that for training, if any is."""
        evaluated = [self.splits[name] for name in self.splits if name != "train"]
        if not evaluated:
            return None
        return Evaluator(
            threads,
            self.devices,
            self.task,
            self.shapes.evaluated,
            evaluated,
            self.config.train.eval_batch_size,
            self.config.data.workers,
        )


def build_task(config: Config, splits: Splits, plan: Plan) -> Task:
    """The network, its optimiser and its inputs, as a resolved config says.

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
        optimiser=_optimizer(
            warmup_steps(config, plan),
            plan.total_steps,
            config.optim.learning_rate,
            config.optim.weight_decay,
            config.optim.clip_norm,
            config.optim.layer_decay,
            config.freeze,
        ),
        freeze=config.freeze,
        class_weights=optimizers.CLASS_WEIGHTS[config.loss.class_weights](
            splits.train.labels, len(splits.classes)
        ),
        image_size=model.image_size,
        mean=levels,
        std=levels,
        augmentation=config.augment,
        fit=config.data.fit,
        label_smoothing=config.loss.label_smoothing,
        ema_decay=config.optim.ema_decay,
        accumulate=config.optim.accumulate,
    )


@functools.lru_cache(maxsize=MAX_CACHED_PROGRAMS)
def _optimizer(
    warmup: int, total: int, learning_rate: float, *settings
) -> optax.GradientTransformation:
    """AdamW under its schedule; one object for equal settings, so programs match."""
    return optimizers.adamw(
        optimizers.schedule(learning_rate, warmup, total), *settings
    )


def with_statistics(
    network: Network, statistics: tuple[np.ndarray, np.ndarray]
) -> Network:
    """A network or task with mean and deviation float32 `[C]` of training images."""
    mean, std = statistics
    return network.replace(mean=mean, std=std)


def create_run_devices(config: Config, hosts: Hosts) -> Devices:
    """The devices of a config.

    Raises:
      UserError: there are fewer, or they cannot share what they are to share.
    """
    kind, count, fsdp = dataclasses.astuple(config.parallel)
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


def model_spec(config: Config, model: Model, channels: int) -> dict:
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


def _changed_fields(config: Config) -> dict[str, typing.Any]:
    """The fields of a config's model that are not the row's own."""
    changed = {
        name: value
        for name, value in vars(config.model).items()
        if name == "name" or value != FIELDS[f"model.{name}"].default
    }
    if isinstance(MODELS[config.model.name], ViTRow):
        changed.pop("strides", None)
    return changed


def check_frozen(freeze: tuple[str, ...], params: dict) -> None:
    """Refuses patterns that freeze nothing, or leave nothing to train.

    Raises:
      UserError: names the pattern, and the parts of the network.
    """
    for pattern in freeze:
        if not any(jax.tree.leaves(optimizers.frozen(params, (pattern,)))):
            raise UserError(
                f"config.freeze: no parameter's path has {pattern!r} in it; they begin "
                f"with {', '.join(params)}"
            )
    if all(jax.tree.leaves(optimizers.frozen(params, freeze))):
        raise UserError(f"config.freeze={freeze} leaves no parameter to train")
