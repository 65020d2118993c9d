"""Evaluation of a run: its newest checkpoint on its test split."""

import typing

from ml_collections import ConfigDict

from hybrid_jax import config as configs
from hybrid_jax import data, runtime
from hybrid_jax.engine import memory_fit
from hybrid_jax.engine.checkpoint import Saved
from hybrid_jax.engine.compile import compiler
from hybrid_jax.engine.console import Reporter
from hybrid_jax.engine.programs import Evaluator, initialiser
from hybrid_jax.engine.results import metric_rows
from hybrid_jax.engine.run_folder import Workdir
from hybrid_jax.engine.setup import Plan, build_task, settled, with_statistics
from hybrid_jax.errors import UserError
from hybrid_jax.fields import FIELDS, LOCAL
from hybrid_jax.parallel.mesh import create_devices


def evaluate(
    config: ConfigDict | None,
    workdir: str,
    changed: dict[str, typing.Any] | None = None,
) -> dict[str, float]:
    """Evaluates the newest checkpoint of a run and prints the results.

    Args:
      config: of the run; None takes the one that the workdir holds.
      workdir: the run's folder; nothing is written to it.
      changed: fields of the stored config that have other values here, such as where
        the data lie; those that decide what a run computes cannot be changed.

    Returns:
      Loss, accuracy and top-5 accuracy on the test split.

    Raises:
      UserError: no run there, another config's, or a checkpoint that cannot be read.
    """
    folder = Workdir(workdir)
    if not folder.checkpoints.is_dir():
        raise UserError(f"--workdir={folder.path} holds no run: train one there first")
    config = config or stored_config(folder, changed or {})
    configs.validate(config)
    runtime.set_up(config.compilation_cache)
    config = settled(config)
    config = memory_fit.adopted(config, folder)
    folder.check(config)
    saved = Saved(folder.checkpoints)
    step = saved.latest()
    if step is None:
        raise UserError(f"{folder.checkpoints} holds no checkpoint: train first")
    with Reporter() as reporter, compiler() as threads:
        for note in saved.notes:
            reporter.say(note)
        splits = data.load(**config.data)
        folder.check_data(splits)
        statistics = folder.statistics(splits)
        devices = create_devices(count=config.parallel.devices)
        task = build_task(config, splits, Plan(config, len(splits.train)))
        shapes = initialiser(devices, task, splits.channels).shapes
        evaluator = Evaluator(
            threads, devices, task, shapes.evaluated, splits.test, config
        )
        state = saved.restore(step, shapes, devices)
        tested = evaluator(with_statistics(task, statistics), state.evaluated)
        title = f"{config.model.name} on {config.data.name}, step {step:,}"
        reporter.table(title, metric_rows(tested))
    return tested


def stored_config(folder: Workdir, changed: dict[str, typing.Any]) -> ConfigDict:
    """The config that a run was started with, and some free fields of it changed.

    Raises:
      UserError: it cannot be read, or a field is not free.
    """
    for name in changed:
        if name in FIELDS and not FIELDS[name].free:
            raise UserError(
                f"--config.{name} is what the run of {folder.path} was trained with: "
                "leave it out; only fields that change no result can be changed, such "
                f"as {', '.join(f'--config.{name}' for name in sorted(LOCAL))}"
            )
    return configs.unflatten(folder.read_config() | changed)
