"""Load a run from its folder, without its images and its optimizer."""

import functools
import os
from typing import Any

import jax.numpy as jnp

from hybrid_jax import data, runtime
from hybrid_jax.checkpoints.reader import CheckpointReader
from hybrid_jax.config.schema import LossConfig
from hybrid_jax.errors import UserError, warn
from hybrid_jax.programs.experiment import with_statistics
from hybrid_jax.runs import same_run
from hybrid_jax.runs.derived_run import with_views
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.lost_images import refuse_in_memory
from hybrid_jax.runs.model_spec import model_from_spec
from hybrid_jax.runs.run import Run
from hybrid_jax.training.step import Network


def load_run(
    workdir: str | os.PathLike,
    checkpoint: str | int | list | tuple | None = None,
    views: bool = False,
    **fields: Any,
) -> Run:
    """Open the run of a folder; nothing is written there, and no image is needed.

    A warning names each checkpoint that is skipped or repaired, as `run.notes` does.
    Weights and splits are read when they are first needed. That is an error once
    another run has taken the place of this one in its folder.

    Args:
      workdir: the run's folder.
      checkpoint: `best` on validation, `last`, a step, several of these in a list or
        with commas, or `all`; the weights of several are averaged. None takes the one
        that was tested; if the run has not ended, it takes the best, or else the last.
      views: average over the views of each image that the run's `augment.symmetry`
        makes, such as flips.
      **fields: config fields to change, by name with `__` for dots, such as
        `data__dir="/elsewhere"`. Fields that decide what a run computes cannot be
        changed.

    Raises:
      UserError: the folder holds no run or no such checkpoint, it cannot be read, the
        run has no such views, or `JAX_PLATFORMS` names a device that is not there.
    """
    if not isinstance(workdir, str | os.PathLike):
        raise UserError(f"workdir={workdir!r} is no path: give the folder of a run")
    if not isinstance(views, bool):
        raise UserError(f"views={views!r} is not allowed: give True or False")
    if isinstance(checkpoint, list | tuple):  # a tuple, as `Run.checkpoint` may be
        if not checkpoint:
            raise UserError(
                f"checkpoint={checkpoint!r} is empty: leave it out to take the one "
                "that was tested"
            )
        checkpoint = ",".join(map(str, checkpoint))
    run = open_run(
        RunFolder(workdir),
        checkpoint,
        {name.replace("__", "."): value for name, value in fields.items()},
        views,
    )
    warn(run.notes)
    return run


def open_run(
    folder: RunFolder,
    checkpoint: str | int | None,
    changed: dict[str, Any],
    views: bool = False,
) -> Run:
    """Open the run of a folder; who calls this shows `run.notes`.

    Args:
      folder: the run's folder.
      checkpoint: see `load_run`.
      changed: config fields to change, by name.
      views: see `load_run`.

    Raises:
      UserError: the folder holds no run or no such checkpoint, it cannot be read, the
        run has no such views, or see `check_device`.
    """
    runtime.check_device()
    if not folder.checkpoints.is_dir():
        if (folder.path / "model.safetensors").exists():  # of `saved_network`
            raise UserError(
                f"{folder.path} holds no run, but weights that were saved or "
                "exported: open them with hybrid_jax.Classifier.load"
            )
        raise UserError(f"{folder.path} holds no run: train one there first")
    config = folder.config_with(changed)
    saved = CheckpointReader(folder.checkpoints)
    steps = folder.choose(saved, checkpoint)
    spec, form = folder.read_model(), folder.read_form()
    network = network_from_spec(
        spec, folder.model, dtype=config.dtype, fit=config.data.fit, loss=config.loss
    )

    results = folder.read_results()

    def own_splits() -> data.Splits:
        refuse_in_memory(
            config.data.name, "evaluate it on images and labels, or --data=DIR"
        )
        if folder.has_checkpoints():  # otherwise, nothing is read from the folder
            same_run.check(run)
        _, splits = folder.load_splits(config)
        folder.check_data(splits)
        return splits

    run = Run(
        config=config,
        network=with_statistics(network, folder.read_statistics(spec["channels"])),
        classes=folder.read_classes(spec["num_classes"]),
        form=form,
        checkpoint=steps,
        variables=functools.partial(saved.load_variables, steps),
        splits=own_splits,
        results=None if results is None else {**results},
        history=folder.read_history(),
        workdir=folder.path,
        notes=saved.notes,
    )
    return with_views(run) if views else run


def network_from_spec(
    spec: dict[str, Any], where: object, *, dtype: str, fit: str, loss: LossConfig
) -> Network:
    """Build the network that a file describes; `with_statistics` completes it.

    Args:
      spec: see `model_from_spec`.
      where: the file.
      dtype: number type of the network's computations.
      fit: how images of another size become those of the network.
      loss: of the run; says how logits become probabilities.

    Raises:
      UserError: no model has such arguments.
    """
    model = model_from_spec(spec, where, dtype)
    return Network(
        model=model,
        image_size=model.image_size,
        mean=jnp.zeros(spec["channels"]),
        std=jnp.ones(spec["channels"]),
        fit=fit,
        loss=loss,
    )
