"""Build devices, network and programs from a config and splits, for all commands.

config = set_up_process(resolve(config))        # checked once, for all that follows
experiment = Experiment(config, splits, hosts)  # devices, schedule, network
trainer = experiment.trainer(threads)           # programs, compiled in threads
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Callable
from concurrent.futures import Executor

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hybrid_jax import runtime
from hybrid_jax.config.schema import (
    FIELDS,
    Config,
    ModelConfig,
    OptimConfig,
    ParallelConfig,
)
from hybrid_jax.data import Splits
from hybrid_jax.data.loader import create_loader
from hybrid_jax.data.sampler import TrainingOrder
from hybrid_jax.errors import UserError, plural
from hybrid_jax.models import create_model
from hybrid_jax.models.registry import MODELS, passes_strides_over
from hybrid_jax.models.vit import ViT
from hybrid_jax.ops.backend import target_devices
from hybrid_jax.parallel.distributed import Hosts
from hybrid_jax.parallel.mesh import Devices, create_devices
from hybrid_jax.programs.checks import check_augmentation, check_frozen
from hybrid_jax.programs.compile import MAX_CACHED_PROGRAMS, Program
from hybrid_jax.programs.fault_injection import check_fault
from hybrid_jax.programs.programs import (
    Evaluator,
    Trainer,
    check_kernels,
    initialization_program,
)
from hybrid_jax.programs.schedule import Plan, check_lookahead, learning_rates
from hybrid_jax.training import losses, optimizers
from hybrid_jax.training.state import TrainState
from hybrid_jax.training.step import Network, Task
from hybrid_jax.weights.timm_models import Model

N = typing.TypeVar("N", bound=Network)
# Fields that the optimizer itself does not depend on: they make its rates, or act
# elsewhere. They are reset, so that equal optimizers match.
_RESET = {
    name: getattr(OptimConfig, name)
    for name in (
        "learning_rate",
        "weight_decay",
        "schedule",
        "warmup_epochs",
        "warmup_steps",
        "decay_epochs",
        "decay_factor",
        "ema_decay",
        "accumulate",
    )
}


def set_up_process(config: Config, hosts: Hosts | None = None) -> Config:
    """Set up the process, and resolve what the config leaves to the machine.

    `dtype=auto` becomes bfloat16, or float32 on CPUs, which have no fast products of
    bfloat16. A run stores the resolved config, so that it cannot resume in another
    precision unnoticed.
    """
    # On CPUs, processes that read programs which one of them compiled wait forever.
    many = hosts is not None and hosts.is_distributed
    cached = not many or jax.default_backend() != "cpu"
    runtime.set_up(config.compilation_cache and cached)
    if config.dtype != "auto":
        return config
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return config.replace({"dtype": dtype})


def shared_settings(config: Config) -> dict:
    """Return the settings, except for data, that all hosts of a run must share."""
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
      config: resolved config, from `set_up_process`.
      splits: splits to train on and to evaluate.
      hosts: the processes that share the run.
    """

    config: Config
    splits: Splits
    hosts: Hosts = dataclasses.field(default_factory=Hosts)

    @functools.cached_property
    def devices(self) -> Devices:
        """Return the devices that share each batch."""
        config = self.config
        return create_run_devices(
            config.parallel,
            batch_size=config.train.batch_size,
            micro_batches=config.optim.accumulate,
            hosts=self.hosts,
        )

    @functools.cached_property
    def plan(self) -> Plan:
        """Return the plan: how many steps there are, and which are evaluated."""
        return Plan(self.config.train, len(self.splits.train))

    @functools.cached_property
    def task(self) -> Task:
        """Return a training step's constants; mean and deviation are only shapes."""
        return build_task(self.config, self.splits, self.plan)

    @property
    def model(self) -> Model:
        """Return the network."""
        return typing.cast(Model, self.task.model)

    @functools.cached_property
    def initialize(self) -> Program:
        """Return the traced program that creates the state at step 0."""
        program = initialization_program(self.devices, self.task, self.splits.channels)
        check_frozen(self.config.freeze, program.shapes.params)
        return program

    @property
    def shapes(self) -> TrainState:
        """Return the shapes of a state, as placed on the devices."""
        return self.initialize.shapes

    @functools.cached_property
    def spec(self) -> dict[str, typing.Any]:
        """Return the arguments of `create_model` for the network, and its channels."""
        return model_spec(self.config.model, self.model, self.splits.channels)

    def check(self) -> None:
        """Build what a run needs, before anything is written.

        Raises:
          UserError: devices, images, network, kernels, schedule and augmentation do not
            fit together, or `freeze` does not fit the network.
        """
        check_augmentation(self.config, self.splits.channels)
        check_kernels(self.devices, self.task)
        check_lookahead(self.config, self.plan)
        check_fault(self.config.debug.inject, self.plan.total_steps)
        if self.config.freeze:
            _ = self.initialize

    def with_micro_batches(self, micro_batches: int) -> "Experiment":
        """Return an experiment whose steps are split into so many micro-batches."""
        config = self.config.replace({"optim.accumulate": micro_batches})
        return Experiment(config, self.splits, self.hosts)

    def training_order(self) -> TrainingOrder:
        """Return the order, which says what images each training step takes."""
        return TrainingOrder(
            self.splits.train.labels,
            self.config.train.batch_size,
            self.config.seed,
            self.config.train.sampling,
        )

    def trainer(self, threads: Executor, before: Trainer | None = None) -> Trainer:
        """Start to compile the training program, and load its images.

        Args:
          threads: executor from `compile.compiler_threads`.
          before: trainer with other micro-batches, whose images are taken over, since
            they may not fit on the devices twice.
        """
        order = before.order if before else self.training_order()
        workers = self.config.data.workers
        loader = (
            before.loader
            if before
            else create_loader(
                self.splits.train, order, order.batch_size, workers, self.devices
            )
        )
        return Trainer(
            threads,
            self.devices,
            self.task,
            self.shapes,
            loader,
            order=order,
            fault=self.config.debug.inject,
        )

    def evaluator(self, threads: Executor) -> Evaluator | None:
        """Start to compile the evaluation program; None without a split to evaluate."""
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
    """Build a training step's network, optimizer and constants from a resolved config.

    Mean and deviation are only shapes, enough to compile; see `with_statistics`.

    Raises:
      UserError: the image size does not fit the strides, or there are too few steps.
    """
    height, width = config.data.image_size or splits.image_size
    try:
        model = create_model(
            **_changed_fields(config.model),
            num_classes=len(splits.classes),
            image_size=(int(height), int(width)),
            dtype=jnp.dtype(config.dtype),
            scan=config.train.scan,
            remat=config.train.remat,
            kernels=config.train.kernels,
        )
    except ValueError as error:
        raise UserError(
            f"{error} (config.model, config.data.image_size={height},{width})"
        ) from None
    channel_shape: typing.Any = jax.ShapeDtypeStruct((splits.channels,), jnp.float32)
    class_weights: typing.Any = losses.CLASS_WEIGHTS[config.loss.class_weights](
        splits.train.labels, len(splits.classes)
    )
    return Task(
        model=model,
        create_optimizer=_optimizer(
            optimizers.OPTIMIZERS[config.optim.name],
            dataclasses.replace(config.optim, **_RESET),
            config.freeze,
        ),
        rates=optimizers.Rates(
            learning_rates(config, plan), np.float32(config.optim.weight_decay)
        ),
        freeze=config.freeze,
        class_weights=class_weights,
        image_size=model.image_size,
        mean=channel_shape,
        std=channel_shape,
        augmentation=config.augment,
        fit=config.data.fit,
        loss=config.loss,
        ema_decay=config.optim.ema_decay,
        accumulate=config.optim.accumulate,
    )


@functools.lru_cache(maxsize=MAX_CACHED_PROGRAMS)
def _optimizer(
    create_row: Callable[..., optax.GradientTransformation],
    optim: OptimConfig,
    freeze: tuple[str, ...],
) -> Callable[[optimizers.Rates], optax.GradientTransformation]:
    """Return a function that creates an optimizer from its rates.

    Equal settings give the same function object, so that their programs match too.

    Args:
      create_row: row of `OPTIMIZERS`.
      optim: fields of the optimizer; those of its rates have their defaults.
      freeze: patterns of parameters that are not trained.
    """
    return optimizers.create_of_rates(create_row, optim, freeze)


def with_statistics(network: N, statistics: tuple[np.ndarray, np.ndarray]) -> N:
    """Return a network or task with this mean and deviation, each float32 `[C]`."""
    mean, std = statistics
    replaced: N = network.replace(mean=mean, std=std)
    return replaced


def create_run_devices(
    config: ParallelConfig, *, batch_size: int, micro_batches: int, hosts: Hosts
) -> Devices:
    """Return the devices that share each micro-batch.

    Raises:
      UserError: there are too few devices, or they cannot share batch or parameters.
    """
    kind, count, fsdp = config.kind, config.devices, config.fsdp
    there = len(target_devices())
    if hosts.is_distributed and count not in (0, there):
        raise UserError(
            f"config.parallel.devices={count}, but a run of several processes uses all "
            f"their {there} devices: give 0, or start other processes"
        )
    if count > there:
        raise UserError(
            f"config.parallel.devices={count}, but there "
            f"{'is' if there == 1 else 'are'} {plural(there, 'device')}: give 0 to use "
            "all"
        )
    count = count or there
    if kind == "pmap" and fsdp > 1:
        raise UserError(
            f"config.parallel.fsdp={fsdp} is not possible with pmap, which copies "
            "parameters: give config.parallel.kind=jit"
        )
    if count % fsdp:
        raise UserError(
            f"config.parallel.fsdp={fsdp} does not divide the "
            f"{plural(count, 'device')}: give --config.parallel.fsdp="
            f"{math.gcd(count, fsdp)}"
        )
    multiple = count * micro_batches
    if batch_size % multiple:
        nearest = max(round(batch_size / multiple), 1) * multiple
        times = f" times {micro_batches} micro-batches" if micro_batches > 1 else ""
        fewer = (n for n in range(count, 0, -1) if not batch_size % (n * micro_batches))
        fits = next((n for n in fewer if not n % fsdp), 0)
        way = (
            f"start processes with {plural(fits, 'device')} in all"
            if hosts.is_distributed
            else f"give config.parallel.devices={fits}"
        )
        ways = [way] if fits else []
        raise UserError(
            f"config.train.batch_size={batch_size} is no multiple of {count} devices"
            f"{times}: {', or '.join([*ways, f'take {nearest} in a new run'])}"
        )
    return create_devices(kind, count, fsdp)


def model_spec(config: ModelConfig, model: Model, channels: int) -> dict:
    """Return the arguments of `create_model` for this network, fit for JSON.

    Strides or patch size are included even if the image size determined them, since the
    network has the same ones at any other image size.
    """
    chosen = "patch_size" if isinstance(model, ViT) else "strides"
    return _changed_fields(config) | {
        chosen: getattr(model, chosen),
        "num_classes": model.num_classes,
        "image_size": model.image_size,
        "channels": channels,
    }


def _changed_fields(config: ModelConfig) -> dict[str, typing.Any]:
    """Return the name of a model, and its fields that differ from their defaults."""
    changed = {
        name: value
        for name, value in vars(config).items()
        if name == "name" or value != FIELDS[f"model.{name}"].default
    }
    if passes_strides_over(MODELS[config.name], config.strides):
        changed.pop("strides", None)
    return changed
