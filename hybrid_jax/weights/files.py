"""Weights in files: safetensors and PyTorch checkpoints.

No code in a file is ever run: safetensors holds arrays alone, and `pickles` reads only
tensors and plain containers.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hybrid_jax.errors import UserError, elide, first_line, listed, plural
from hybrid_jax.models.choices import CHOICES
from hybrid_jax.models.registry import MODELS
from hybrid_jax.models.strides import Size, as_size, choose_strides, map_sizes
from hybrid_jax.models.vit import ViT
from hybrid_jax.paths import expand_user, replacing
from hybrid_jax.weights import timm_models, timm_names
from hybrid_jax.weights.adapt import Adapted, Source, adapt_arrays
from hybrid_jax.weights.float_arrays import to_float32
from hybrid_jax.weights.pickles import PICKLES, read_pickle
from hybrid_jax.weights.timm_models import Arrays, Model

COLLECTIONS = ("params", "batch_stats")
# Keys of the metadata in this project's files.
KEYS = SPEC, CLASSES, PIXELS = ("hybrid_jax", "hybrid_jax.classes", "hybrid_jax.pixels")

OBLONG = (
    "the file does not tell its image size, and its bias tables do not belong to "
    "square maps: they are read as those of the network's maps"
)


class Weights(NamedTuple):
    """Content of a file of weights.

    Attributes:
      path: of the file.
      arrays: float32, by the names in the file.
      spec: arguments of `create_model`, and `channels`; None if the file is not this
        project's.
      notes: in words, what was skipped to find the weights.
      classes: class names in the order of the logits; None if unknown.
      pixels: how images are decoded and normalized; None if unknown.
    """

    path: Path
    arrays: Arrays
    spec: dict[str, Any] | None
    notes: Sequence[str] = ()
    classes: tuple[str, ...] | None = None
    pixels: dict[str, Any] | None = None

    @property
    def is_native(self) -> bool:
        """Whether the arrays have this project's names, rather than timm's."""
        return all(name.split("/")[0] in COLLECTIONS for name in self.arrays)


def fit_weights(
    model: Model,
    weights: Weights,
    shapes: dict[str, tuple[int, ...]],
    classes: Sequence[str] | None = None,
) -> Adapted:
    """Convert the weights of a file to the names and shapes of a network.

    Args:
      model: the network.
      weights: content of the file.
      shapes: shapes of the network's variables, by path.
      classes: class names in the order of its logits; None compares no names.

    Raises:
      UserError: lists every missing, surplus and misshapen array, or names one that
        timm's networks do not have.
    """
    arrays = weights.arrays
    theirs = _choices(model, weights)
    source = Source(
        patches=_patch_grid(weights.spec),
        classes=weights.classes,
        on_torus=weights.is_native and theirs.get("relative_bias") == "torus",
    )
    guessed = []
    try:
        if not weights.is_native:
            maps = _maps(model, weights.spec)
            if maps is None and timm_names.has_oblong_tables(arrays):
                guessed = [OBLONG]
            arrays, leaves = timm_names.from_timm(model, arrays, shapes, maps)
            source = source._replace(leaves=leaves)
        adapted = adapt_arrays(model, arrays, shapes, source, classes)
    except ValueError as error:
        name = (weights.spec or {}).get("name")
        whose = f"holds weights of {name}, which do" if name else "does"
        raise UserError(
            f"{weights.path} {whose} not fit the network: {error}"
        ) from None
    notes = [*weights.notes, *guessed, *adapted.notes, *_strides_note(model, weights)]
    notes += [
        f"{name} is {value} there and {getattr(model.block_config, name)} here"
        for name, value in theirs.items()
        if value != getattr(model.block_config, name)
    ]
    return adapted._replace(notes=notes)


def fit_exactly(
    model: Model, weights: Weights, shapes: dict[str, tuple[int, ...]]
) -> Arrays:
    """Convert the weights of a file to a network that takes all of them as they are.

    Args:
      model: the network that the file describes.
      weights: content of the file.
      shapes: shapes of the network's variables, by path.

    Raises:
      UserError: see `fit_weights`; or an array would be changed or left out.
    """
    adapted = fit_weights(model, weights, shapes)
    refuse_changes(weights.path, adapted.changes)
    return adapted.arrays


def refuse_changes(path: Path, changes: dict[str, str]) -> None:
    """Refuse a file whose arrays a network takes only after a change.

    Args:
      path: the file.
      changes: see `Adapted`.

    Raises:
      UserError: there is a change.
    """
    if changes:
        raise UserError(
            f"{path} does not fit the network that it describes: "
            f"{listed([*changes.values()])}: restore it, or write it again"
        )


def _choices(model: Model, weights: Weights) -> dict[str, str]:
    """Return the choices inside the blocks that weights were trained with.

    A file that does not name its choices is taken for one of timm's if it has timm's
    names, and for one of this network otherwise.
    """
    config, spec = model.block_config, weights.spec or {}
    if spec.get("name") in MODELS:
        config = MODELS[spec["name"]].block_config
    elif not weights.is_native:
        config = timm_models.in_timm(config)
    return {name: spec.get(name, getattr(config, name)) for name in CHOICES}


def _patch_grid(spec: dict[str, Any] | None) -> tuple[int, int] | None:
    """Return rows and columns of a ViT's patches; None for other networks."""
    if not (spec and spec.get("patch_size")):
        return None
    height, width = as_size(spec["image_size"])
    return -(-height // spec["patch_size"]), -(-width // spec["patch_size"])


def _maps(model: Model, spec: dict[str, Any] | None) -> list[Size] | None:
    """Return the maps after each stride of a file's hybrid; None if they are unknown.

    Args:
      model: the network that its weights go to, of as many stages.
      spec: what the file says of its network.
    """
    if isinstance(model, ViT) or not (spec and spec.get("image_size")):
        return None
    size, stages = as_size(spec["image_size"]), len(model.stack)
    strides = tuple(spec.get("strides") or choose_strides(size, stages))
    return map_sizes(size, strides) if len(strides) == 1 + stages else None


def _strides_note(model: Model, weights: Weights) -> list[str]:
    """Note that the network in the file has other strides, where both are known."""
    theirs = (weights.spec or {}).get("strides")
    if not (weights.spec or weights.is_native):
        theirs = timm_models.TIMM_STRIDES
    here = getattr(model, "strides", None)
    if not theirs or not here or tuple(theirs) == here:
        return []
    return [f"strides are {tuple(theirs)} there and {here} here"]


def shapes_of(variables: dict) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array, or `jax.ShapeDtypeStruct`, by path."""
    flat = flatten_dict(_weight_collections(variables), sep="/")
    return {path: tuple(x.shape) for path, x in flat.items()}


def merge_arrays(variables: dict, arrays: Arrays) -> dict:
    """Return variables with the arrays at the given paths replaced."""
    collections = _weight_collections(variables)
    flat = flatten_dict(collections, keep_empty_nodes=True, sep="/")
    new = {path: jnp.asarray(array) for path, array in arrays.items()}
    return unflatten_dict(flat | new, sep="/")


def _weight_collections(variables: dict) -> dict:
    return {name: variables[name] for name in COLLECTIONS if name in variables}


def read_file(path: str | os.PathLike) -> Weights:
    """Read a file of weights.

    Raises:
      UserError: the file is missing or damaged, or holds more than weights, or some are
        not finite or no floating-point numbers.
    """
    path = expand_user(path)
    if not path.is_file():
        raise UserError(f"there are no weights at {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLES:
        arrays, notes = read_pickle(path)
        return Weights(path, to_float32(path, _bare(path, arrays)), None, notes)
    raise UserError(
        f"{path} is not a file of weights: give a .safetensors, {', '.join(PICKLES)}, "
        "or the folder of a run"
    )


def write_file(
    path: str | os.PathLike,
    arrays: Arrays,
    spec: dict | None = None,
    classes: Sequence[str] | None = None,
    pixels: dict[str, Any] | None = None,
) -> None:
    """Write a `.safetensors` file, whole or not at all.

    Args:
      path: of the file.
      arrays: by name.
      spec: arguments of `create_model`, and `channels`; stored in the metadata, like
        all that follows.
      classes: class names in the order of the logits.
      pixels: how images are decoded and normalized.

    Raises:
      UserError: the folder does not exist, or `path` is a folder.
      OSError: the file cannot be written.
    """
    path = expand_user(path)
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} to")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file to write")
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    known = {SPEC: spec, CLASSES: classes and list(classes), PIXELS: pixels}
    metadata = {key: json.dumps(value) for key, value in known.items() if value}
    try:
        with replacing(path) as scratch:
            scratch.touch()
            mode = scratch.stat().st_mode
            save_file(arrays, scratch, metadata=metadata or None)
            scratch.chmod(mode)  # as of other files; safetensors shuts out all but one
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {first_line(error)}") from None


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="np") as file:
            metadata, names = file.metadata() or {}, file.keys()
            kinds = {file.get_slice(name).get_dtype() for name in names}
            if any(kind.startswith("F8") for kind in kinds):  # NumPy has none
                raise UserError(
                    f"{path} holds numbers in float8, which cannot be read: convert it "
                    "to float16 or float32"
                )
            arrays = _bare(path, {name: file.get_tensor(name) for name in names})
        known = {key: json.loads(metadata.get(key, "null")) for key in KEYS}
        spec = check_spec(known[SPEC]) if SPEC in metadata else None
        outputs = spec.get("num_classes") if spec else None
        has_names = known[CLASSES] is not None
        return Weights(
            path,
            to_float32(path, arrays),
            spec=spec,
            classes=check_class_names(known[CLASSES], outputs) if has_names else None,
            pixels=known[PIXELS],
        )
    except (
        SafetensorError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,  # of metadata that are nested too deep
    ) as error:
        raise UserError(
            f"{path} is damaged or not a safetensors file ({first_line(error)})"
        ) from None


def _bare(path: Path, arrays: Arrays) -> Arrays:
    """Return arrays by their names, without the prefixes of PyTorch's wrappers.

    Raises:
      UserError: two arrays of the file would have one name.
    """
    names: dict[str, str] = {}
    for name in arrays:
        other = names.setdefault(re.sub(r"^((module|_orig_mod)\.)+", "", name), name)
        if other != name:
            raise UserError(
                f"{path} holds both {other} and {name}, which are one array behind "
                "what PyTorch's wrappers put before names: remove one"
            )
    return {bare: arrays[name] for bare, name in names.items()}


def check_spec(spec: Any) -> dict[str, Any]:
    """Return the stored arguments of `create_model` and `channels`, checked.

    Raises:
      ValueError: this project did not write them.
    """
    if not isinstance(spec, dict) or not {"name", "channels"} <= spec.keys():
        raise ValueError("its metadata describes no model")
    for field, holds in SPEC_FIELDS.items():
        if field in spec and not holds(spec[field]):
            value = elide(repr(spec[field]))
            raise ValueError(f"its metadata describes no model: {field} is {value}")
    if "patch_size" in spec and "image_size" not in spec:
        raise ValueError("its metadata describes patches, but no image size")
    return spec


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _are_counts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_count, value))


# Fields of a stored spec that are read before `create_model` checks the others.
SPEC_FIELDS: dict[str, Callable[[Any], bool]] = {
    "name": lambda name: isinstance(name, str),
    "channels": _is_count,
    "num_classes": _is_count,
    "patch_size": _is_count,
    "image_size": lambda size: (
        _is_count(size) or (_are_counts(size) and len(size) == 2)
    ),
    "strides": _are_counts,
}


def check_class_names(classes: Any, outputs: int | None) -> tuple[str, ...]:
    """Return stored class names, checked.

    Args:
      classes: what was stored.
      outputs: how many logits the network has; None if unknown.

    Raises:
      ValueError: the names are not a list of different strings, one for each logit.
    """
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise ValueError("the class names are no list of texts")
    count = len({*classes})
    if count < len(classes) or (outputs is not None and count != outputs):
        logits = "" if outputs is None else f" for {plural(outputs, 'logit')}"
        raise ValueError(
            f"{plural(count, 'different class name')} given{logits}: {elide(classes)}"
        )
    return tuple(classes)
