"""Convert weights between this project and timm, or the released Astroformer."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from hybrid_jax.errors import UserError, closest, plural
from hybrid_jax.models import create_model
from hybrid_jax.models.registry import MODELS
from hybrid_jax.models.strides import Size
from hybrid_jax.paths import check_absent, check_given, check_local, expand_user
from hybrid_jax.runs.model_spec import model_from_spec
from hybrid_jax.runs.weights import read_weights
from hybrid_jax.weights import timm_models, timm_names
from hybrid_jax.weights.adapt import CLASSIFIER, POSITIONS, Adapted
from hybrid_jax.weights.files import (
    Weights,
    fit_weights,
    refuse_changes,
    shapes_of,
    write_file,
)
from hybrid_jax.weights.timm_models import Arrays, Model

# Names of the classifier's bias: here, and in timm's hybrids and ViTs.
BIASES = (f"{CLASSIFIER}bias", "head.fc.bias", "head.bias")


def convert_weights(
    source: str,
    target: str,
    name: str | None = None,
    image_size: Size | None = None,
    to: str | None = None,
    checkpoint: str = "",
) -> list[str]:
    """Convert a file of weights, or a checkpoint of a run.

    Args:
      source: a file, or the folder of a run.
      target: a `.safetensors` file to write, which must not exist.
      name: name of the model, which timm's files do not contain.
      image_size: `(height, width)` that the converted network is for; None keeps that
        of the source, which for timm's files is taken to be square.
      to: `timm` or `hybrid_jax`; None takes the format that the source does not have.
      checkpoint: checkpoint of a run, see `load_run`; empty takes the tested one.

    Returns:
      Lines of text that say what was done.

    Raises:
      UserError: the source cannot be read or does not fit the model, or contradicts its
        metadata; timm has no such model, or the target exists.
    """
    check_given("source", source, "give a file of weights, or the folder of a run")
    check_local("source", source)
    check_local("target", target)
    if not target.endswith(".safetensors"):
        raise UserError(f"{target} does not end with .safetensors: give such a file")
    if expand_user(source).resolve() == expand_user(target).resolve():
        raise UserError(f"{target} is the source: give another file to write")
    check_absent(expand_user(target))
    weights = read_weights(source, checkpoint)
    to = to or ("timm" if weights.is_native else "hybrid_jax")
    spec = weights.spec or _read_timm_spec(weights, name)
    if name and spec["name"] != name:
        raise UserError(f"{source} is of {spec['name']}, not of --model={name}")
    spec = {**spec, "num_classes": _count_classes(spec, weights)}
    if image_size:
        spec = {**spec, "image_size": image_size}
    model, shapes = _create_model(spec, weights.path, image_size)
    adapted = _fit(model, weights, shapes, resizes=image_size is not None)
    arrays, notes = adapted.arrays, list[str]()
    if to == "timm":
        arrays, notes = _convert_to_timm(model, spec["channels"], arrays, target)
    # timm ignores the metadata; with them, converting back needs no --model.
    write_file(target, arrays, spec, weights.classes, weights.pixels)
    count = sum(x.size for key, x in arrays.items() if not _is_statistic(key))
    done = f"{target}: {count:,} parameters, under the names of {to}"
    return [*adapted.notes, done, *notes]


def _fit(
    model: Model, weights: Weights, shapes: dict[str, tuple[int, ...]], resizes: bool
) -> Adapted:
    """Convert weights to a network; only what `resizes` asks for changes an array."""
    adapted = fit_weights(model, weights, shapes)
    changes = {
        path: change
        for path, change in adapted.changes.items()
        if not (resizes and path.endswith(("/bias_table", POSITIONS)))
    }
    refuse_changes(weights.path, changes)
    return adapted


def _is_statistic(key: str) -> bool:
    """Return whether an array, by its name here or in timm, is no parameter."""
    return key.startswith("batch_stats/") or key.endswith(("_mean", "_var"))


def _count_classes(spec: dict[str, Any], weights: Weights) -> int:
    """Return of how many classes a network is, by its classifier.

    Raises:
      UserError: its metadata say another number, or neither tells it.
    """
    biases = [weights.arrays[key] for key in BIASES if key in weights.arrays]
    if not biases and "num_classes" in spec:
        return int(spec["num_classes"])  # what is missing is listed later
    if not biases:
        raise UserError(f"{weights.path} has no classifier: give whole weights")
    count = biases[0].size
    said = spec.get("num_classes", count), len(weights.classes or range(count))
    for number in said:
        if number != count:
            raise UserError(
                f"the classifier of {weights.path} has {plural(count, 'output')}, and "
                f"its metadata say {number:,}: restore it, or write it again"
            )
    return count


def _create_model(
    spec: dict[str, Any], path: Path, image_size: Size | None
) -> tuple[Model, dict[str, tuple[int, ...]]]:
    """Return a model and the shapes of its variables."""
    fields = {name: x for name, x in spec.items() if name != "image_size"}
    model = model_from_spec(fields if image_size else spec, path)
    if image_size:
        where = f"--image-size={','.join(map(str, image_size))}"
        model = model_from_spec(spec, where, way_out="give another")
    images = jax.ShapeDtypeStruct((1, *model.image_size, spec["channels"]), np.float32)
    return model, shapes_of(jax.eval_shape(model.init, jax.random.key(0), images))


def _read_timm_spec(weights: Weights, name: str | None) -> dict[str, Any]:
    """Return the arguments of `create_model` for a file of timm, and `channels`."""
    if name not in MODELS:
        hint = closest(name, MODELS) if name else ""
        raise UserError(
            f"--model={name or ''} is no model{hint}: {weights.path} does not name "
            "its model; `hybrid-jax models` lists all names"
        )
    try:
        if not weights.is_native:
            timm_models.timm_arguments(create_model(name))
    except ValueError as error:
        raise UserError(
            f"{weights.path} has timm's names, but timm has no {name} ({error}): give "
            "the --model= that the file is of"
        ) from None
    try:
        return timm_models.spec_from_timm(name, weights.arrays)
    except KeyError as error:
        raise UserError(f"{weights.path} does not fit {name}: no {error}") from None
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise UserError(f"{weights.path} does not fit {name}: {error}") from None


def _convert_to_timm(
    model: Model, channels: int, arrays: Arrays, target: str
) -> tuple[Arrays, list[str]]:
    """Return a state dict of timm, and lines of text that say how to load it."""
    try:
        state = timm_names.to_timm(model, arrays)
        name, arguments = timm_models.timm_arguments(model)
    except ValueError as error:
        raise UserError(f"{error}: give --to=hybrid_jax") from None
    arguments["in_chans"] = channels
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    notes = [
        "load it with",
        f"    network = timm.create_model({name!r}, {given})",
        f"    network.load_state_dict(safetensors.torch.load_file({target!r}))",
    ]
    reasons = timm_models.other_logits(model)
    notes += [
        f"{reason}: timm loads the weights, but computes other logits with them"
        for reason in reasons
    ]
    if not reasons and arguments["img_size"] != model.image_size:
        notes.append(
            f"timm builds the network for images of {arguments['img_size']}, whose "
            "feature maps have the same sizes"
        )
    return state, notes
