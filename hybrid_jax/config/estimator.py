"""Turn the parameters of `hybrid_jax.Classifier` into a config."""

import contextlib
import copy
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hybrid_jax.config.data_fields import IN_MEMORY, OF_FOLDERS
from hybrid_jax.config.files import load_config, takes_model
from hybrid_jax.config.resolve import plain, resolve
from hybrid_jax.config.schema import FIELDS, Config, DataConfig
from hybrid_jax.errors import InvalidInput, OutOfMemory, UserError
from hybrid_jax.models.registry import MODELS, HybridRow
from hybrid_jax.models.strides import SMALLEST_IMAGE, choose_strides

RECIPE = "folder"  # used if no config is given
# The field that each parameter sets if it is not None.
PARAMETERS = {
    "model": "model.name",
    "epochs": "train.epochs",
    "steps": "train.steps",
    "batch_size": "train.batch_size",
    "learning_rate": "optim.learning_rate",
    "image_size": "data.image_size",
    "symmetry": "augment.symmetry",
    "validation": "data.validation",
    "class_weight": "loss.class_weights",
    "init_from": "init_from",
    "random_state": "seed",
}
LARGEST_SIDE = 128  # of images, if the user gives no size
# The length of a run if the user gives no length: whichever is longer.
EPOCHS, FEWEST_STEPS = 40, 1000
EVALUATIONS = 20  # in a run without a config
WARMUP = 0.1  # share of a run without a config
LONGEST_WARMUP = 1 / 3  # share of a run with a config whose length the user changes


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Turn a `UserError` into a `ValueError` that names parameters, not fields."""
    try:
        yield
    except (InvalidInput, OutOfMemory):
        raise
    except UserError as error:
        text = str(error).replace("--workdir", "workdir")
        text = re.sub(r"--config(?=[= ])", "config", text)
        for name, field in PARAMETERS.items():
            for flag in (f"--config.{field}", f"config.{field}"):
                text = text.replace(flag, name)
        raise InvalidInput(text) from None


def choose_config(
    parameters: Mapping[str, Any],
    config: ConfigDict | Config | str | os.PathLike | None,
    images: Callable[[DataConfig], int],
    sizes: Callable[[DataConfig], Sequence[tuple[int, int]]],
) -> Config:
    """Return the config for the parameters of a classifier.

    Args:
      parameters: a value for each name in `PARAMETERS`; None keeps that of `config`.
      config: the recipe; None is `RECIPE`, with a length that depends on `images`.
      images: counts the training images that a data config leaves.
      sizes: returns the `(height, width)` that images have, each at least once, which
        a data config leaves.

    Raises:
      UserError: names the field, its value and what is allowed.
    """
    given = {name: plain(value) for name, value in parameters.items()}
    if given["steps"] is not None and given["epochs"] is not None:
        raise UserError(
            f"steps={given['steps']} and epochs={given['epochs']} are two lengths of "
            "one run: leave one of them at None"
        )
    fields = {
        PARAMETERS[name]: _field_value(PARAMETERS[name], value)
        for name, value in given.items()
        if value is not None
    }
    if isinstance(given["steps"], int) and given["steps"] < 1:  # 0 would mean epochs
        raise UserError(f"steps={given['steps']}: give a whole number above 0, or None")
    fields |= {name: FIELDS[name].default for name in OF_FOLDERS}
    # First each value alone: the recipe's warm-up may be too long for a new length.
    resolve(Config().replace(fields | {"optim.warmup_epochs": 0.0}))
    recipe = resolve(_load(config, given["model"]), is_stored=True)
    changed = recipe.replace(fields | {"data.name": IN_MEMORY})
    if not changed.data.image_size:
        changed = changed.replace(_size_fields(changed, sizes(changed.data)))
    is_chosen = given["steps"] is not None or given["epochs"] is not None
    if is_chosen or config is None:
        trained = max(images(changed.data), 1)
        changed = changed.replace(
            _length_fields(changed, given, trained, config is None)
        )
    return resolve(changed)


def _load(config: Any, model: Any) -> ConfigDict | Config:
    """Return the recipe; a file whose `get_config` takes a model is given `model`."""
    if config is None:
        config = RECIPE
    if isinstance(config, (str, os.PathLike)):
        text = os.fspath(config)
        is_given = model in MODELS and takes_model(text)
        return load_config(f"{text}:{model}" if is_given else text, {})
    if not isinstance(config, (ConfigDict, Config)):
        raise UserError(
            f"config is {type(config).__name__}: give a file, a name such as "
            "'few_images', or a ConfigDict"
        )
    return copy.deepcopy(config)


def _field_value(name: str, value: Any) -> Any:
    """Convert a value to the type of its field, if that does not change its meaning."""
    if name == "data.image_size" and not isinstance(value, str):
        sides = [value, value] if np.ndim(value) == 0 else value
        try:
            return tuple(operator.index(plain(side)) for side in sides)
        except TypeError:
            return value
    if float in FIELDS[name].types and type(value) is int:
        return value if int in FIELDS[name].types else float(value)
    return value


def _size_fields(config: Config, sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return the fields that set the image size for training.

    If all images have one size, it is kept from 16 to `LARGEST_SIDE` pixels. Smaller
    images are enlarged by a whole factor, which the first stride of a hybrid undoes.
    Larger images are reduced, and so are strips that would become larger. Images of
    several sizes become squares, whose side is the median of the shorter sides.
    """
    unique = {*sizes}
    if len(unique) > 1:
        side = int(np.median([min(size) for size in sizes]))
        side = min(max(side, SMALLEST_IMAGE), LARGEST_SIDE)
        return {"data.image_size": (side, side)}
    ((height, width),) = unique
    factor = -(-SMALLEST_IMAGE // min(height, width))
    if factor > 1 and factor * max(height, width) <= LARGEST_SIDE:
        size = height * factor, width * factor
        fields: dict[str, Any] = {"data.image_size": size}
        return fields | _coarse_strides(config, size)
    if factor == 1 and max(height, width) <= LARGEST_SIDE:
        return {}
    scale = LARGEST_SIDE / max(height, width)
    short = (max(round(side * scale), SMALLEST_IMAGE) for side in (height, width))
    return {"data.image_size": tuple(short)}


def _coarse_strides(config: Config, size: tuple[int, int]) -> dict[str, Any]:
    """Return strides whose first halves enlarged images; nothing if they are set."""
    row = MODELS[config.model.name]
    strides = choose_strides(size)
    if (
        not isinstance(row, HybridRow)
        or row.strides
        or config.model.strides
        or len(row.depths) + 1 != len(strides)
        or strides[0] == 2
    ):
        return {}
    return {"model.strides": (2, *strides[1:-1], 1)}


def _length_fields(
    config: Config, given: Mapping[str, Any], trained: int, own_recipe: bool
) -> dict[str, Any]:
    """Return the fields that set the length of a run, its warm-up and its evaluations.

    Args:
      config: the values of all other fields.
      given: the parameters of the classifier.
      trained: number of training images.
      own_recipe: whether the user gave no config.

    Raises:
      UserError: the run is too short for its schedule.
    """
    images_a_step, steps = config.train.batch_size, given["steps"]
    if steps is None and given["epochs"] is None:
        # Rounded, so that the folds of a cross-validation share compiled programs.
        steps = max(FEWEST_STEPS, 100 * round(EPOCHS * trained / images_a_step / 100))
    length = steps or -(-given["epochs"] * trained // images_a_step)
    if own_recipe:
        warmup = int(WARMUP * length)
    else:
        asked = config.optim.warmup_steps or (
            config.optim.warmup_epochs * trained / images_a_step
        )
        warmup = int(min(asked, LONGEST_WARMUP * length))
    if config.optim.schedule == "one_cycle":  # it rises during warm-up
        if length < 2:
            raise UserError(
                "a run of 1 step is too short for config.optim.schedule='one_cycle', "
                "which needs a step of warm-up: give more steps or epochs"
            )
        warmup = max(warmup, 1)
    fields = {
        "train.steps": steps or 0,
        "optim.warmup_steps": warmup,
        "optim.warmup_epochs": 0.0,
    }
    if own_recipe:
        fields["train.eval_every_steps"] = max(length // EVALUATIONS, 1)
    return fields
