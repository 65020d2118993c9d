"""Read weights from a file, or from the folder of a run."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from hybrid_jax import runtime
from hybrid_jax.checkpoints.reader import CheckpointReader
from hybrid_jax.data.sources.label_checks import check_labels
from hybrid_jax.errors import UserError, plural
from hybrid_jax.paths import check_given, expand_user
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.weights.files import (
    Weights,
    check_spec,
    fit_weights,
    merge_arrays,
    read_file,
    shapes_of,
)
from hybrid_jax.weights.timm_models import Model


def load_weights(
    model: Model,
    variables: dict,
    path: str | os.PathLike,
    classes: Sequence[str] | None = None,
) -> tuple[dict, list[str]]:
    """Load the weights of a file or a run into a network's variables.

    Args:
      model: the network.
      variables: its variables. An array that the file does not provide, such as the
        classifier of other classes, keeps its value.
      path: a `.safetensors` or `.pth` file under the names of this project, timm or the
        released Astroformer, or the folder of a run.
      classes: class names in the order of the logits, text or whole numbers, one for
        each. A classifier of the same names in another order is reordered; one of other
        names is left out. None compares no names.

    Returns:
      New variables, and notes that say what had to be changed.

    Raises:
      UserError: the file cannot be read, or belongs to another network; or there is
        not one name for each logit.
    """
    names = None if classes is None else _class_names(classes, model.num_classes)
    weights = read_weights(path)
    adapted = fit_weights(model, weights, shapes_of(variables), names)
    return merge_arrays(variables, adapted.arrays), adapted.notes


def _class_names(classes: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the names of a number of classes as text.

    Raises:
      UserError: there are more or fewer names, or two are equal.
    """
    given = [classes] if isinstance(classes, str) else classes
    names = tuple(map(str, check_labels(given, "classes", "name").tolist()))
    if len(names) != count or len({*names}) < count:
        raise UserError(
            f"classes has {plural(len({*names}), 'different name')}, and the network "
            f"{plural(count, 'logit')}: give one name for each"
        )
    return names


def read_weights(path: str | os.PathLike, checkpoint: str = "") -> Weights:
    """Read the weights of a file, or of a checkpoint in a run's folder.

    Args:
      path: the file, or the run's folder.
      checkpoint: `best`, `last`, a step, several of these with commas, or `all`, in a
        folder; the weights of several are averaged. Empty takes the tested one; if the
        run has not ended, the best, or else the last.

    Raises:
      UserError: `path` is none, there is no such file or checkpoint, it is damaged, it
        holds more than weights, or see `check_device`.
    """
    runtime.check_device()
    check_given("path", path, "give a file of weights, or the folder of a run")
    path = expand_user(path)
    if path.is_dir():
        return _read_run(path, checkpoint)
    if checkpoint and path.is_file():
        raise UserError(
            f"{path} is a file of weights, which has no checkpoint {checkpoint}: leave "
            "the checkpoint out"
        )
    return read_file(path)


def _read_run(path: Path, checkpoint: str) -> Weights:
    folder = RunFolder(path)
    saved = CheckpointReader(folder.checkpoints)
    if not saved.steps:
        raise UserError(
            f"{path} is not the folder of a run with a checkpoint: give one, or a file"
        )
    variables = saved.load_variables(folder.choose(saved, checkpoint))
    arrays = {
        name: np.asarray(array)
        for name, array in flatten_dict(variables, sep="/").items()
    }
    try:
        spec = check_spec(folder.read_model())
    except ValueError as error:
        raise UserError(f"{path} holds no run of hybrid_jax: {error}") from None
    if not folder.data.exists():
        lost = f"{folder.data} is missing: class names and pixel format are left out"
        return Weights(path, arrays, spec, [*saved.notes, lost])
    classes = folder.read_classes(spec["num_classes"])
    pixels = folder.read_pixels(spec["channels"])
    return Weights(path, arrays, spec, saved.notes, classes, pixels)
