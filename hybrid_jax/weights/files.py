"""Weights in files: safetensors, PyTorch checkpoints, and the folders of runs.

Nothing that a file holds is ever run: safetensors holds arrays alone, and of a pickle
only tensors and plain containers are read.
"""

import argparse
import json
import os
import pickle  # for its error alone
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hybrid_jax.engine.checkpoint import CheckpointReader
from hybrid_jax.engine.run_folder import RunFolder
from hybrid_jax.errors import UserError, first_line
from hybrid_jax.models.strides import as_size
from hybrid_jax.weights import timm_models, timm_names
from hybrid_jax.weights.adapt import Fitted, Source, fit
from hybrid_jax.weights.timm_models import Arrays, Model

PICKLES = (".pth", ".pt", ".tar", ".bin", ".ckpt")
# Under which timm's training and others keep a state dict; averages first.
STATE_DICTS = ("state_dict_ema", "model_ema", "state_dict", "model")
COLLECTIONS = ("params", "batch_stats")
# Keys of our files' metadata.
KEYS = SPEC, CLASSES, PIXELS = ("hybrid_jax", "hybrid_jax.classes", "hybrid_jax.pixels")


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
      path: of the file.
      arrays: float32, by the names that the file has for them.
      spec: arguments of `create_model`, and `channels`; None in files of others.
      notes: in words, what was passed over to find them.
      classes: names in the order of the logits; None where they are not known.
      pixels: how images are decoded and normalized, see `RunFolder.read_pixels`; None
        where that is not known.
    """

    path: Path
    arrays: Arrays
    spec: dict[str, Any] | None
    notes: list[str] = []  # noqa: RUF012  # nobody adds to it
    classes: tuple[str, ...] | None = None
    pixels: dict[str, Any] | None = None

    @property
    def ours(self) -> bool:
        """Whether the names are this project's, rather than timm's."""
        return all(name.split("/")[0] in COLLECTIONS for name in self.arrays)


def load_weights(
    model: Model,
    variables: dict,
    path: str | os.PathLike,
    classes: Sequence[str] | None = None,
) -> tuple[dict, list[str]]:
    """Variables with the weights of a file, as far as they can be taken over.

    Args:
      model: the network.
      variables: its variables; what the file has no use for, such as a classifier of
        other classes, keeps these values.
      path: a `.safetensors` or `.pth` file of this project's, timm's or the released
        Astroformer's names, or the folder of a run.
      classes: names in the order of the logits. A classifier of the same names in
        another order is reordered, and one of other names is not taken over. None
        compares no names.

    Returns:
      New variables, and in words what had to be changed.

    Raises:
      UserError: the file cannot be read, or is of another network.
    """
    fitted = fit_weights(model, read(path), shapes_of(variables), classes)
    return merged(variables, fitted.arrays), fitted.notes


def fit_weights(
    model: Model,
    weights: Weights,
    shapes: dict[str, tuple[int, ...]],
    classes: Sequence[str] | None = None,
) -> Fitted:
    """The weights of a file in the shapes of a network.

    Args:
      model: the network.
      weights: of a file.
      shapes: what the network expects, by path.
      classes: names in the order of its logits; None compares no names.

    Raises:
      UserError: lists all that is missing, surplus or misshapen.
    """
    arrays = weights.arrays
    source = Source(patches=_patches(weights.spec), classes=weights.classes)
    if not weights.ours:
        arrays, leaves = timm_names.from_timm(model, arrays, shapes)
        source = source._replace(leaves=leaves)
    try:
        fitted = fit(model, arrays, shapes, source, classes)
    except ValueError as error:
        raise UserError(f"{weights.path} does not fit the network: {error}") from None
    notes = weights.notes + fitted.notes + _strides_note(model, weights)
    return fitted._replace(notes=notes)


def _patches(spec: dict[str, Any] | None) -> tuple[int, int] | None:
    """Rows and columns of the patches of a ViT that a file is of."""
    if not (spec and spec.get("patch_size")):
        return None
    height, width = as_size(spec["image_size"])
    return -(-height // spec["patch_size"]), -(-width // spec["patch_size"])


def _strides_note(model: Model, weights: Weights) -> list[str]:
    """Tells that a file's network halves its maps elsewhere, where that is known."""
    theirs = (weights.spec or {}).get("strides")
    if not (weights.spec or weights.ours):
        theirs = timm_models.TIMM_STRIDES
    here = getattr(model, "strides", None)
    if not theirs or not here or tuple(theirs) == here:
        return []
    return [f"strides {tuple(theirs)} are {here} here"]


def shapes_of(variables: dict) -> dict[str, tuple[int, ...]]:
    """The shape of every array by path; `eval_shape` results do as well."""
    flat = flatten_dict(_collections(variables), sep="/")
    return {path: tuple(x.shape) for path, x in flat.items()}


def merged(variables: dict, arrays: Arrays) -> dict:
    """Variables with arrays put in their places by path."""
    flat = flatten_dict(_collections(variables), sep="/")
    return unflatten_dict(
        flat | {path: jnp.asarray(array) for path, array in arrays.items()}, sep="/"
    ) | {name: {} for name in COLLECTIONS if name in variables and not variables[name]}


def _collections(variables: dict) -> dict:
    return {name: variables[name] for name in COLLECTIONS if name in variables}


def read(path: str | os.PathLike, checkpoint: str = "") -> Weights:
    """The weights of a file, or of a checkpoint of a run's folder.

    Args:
      path: of the file or the folder.
      checkpoint: of a folder: `best`, `last` or a step; empty is the one that was
        tested, or of a run that has not ended the best, or the last.

    Raises:
      UserError: there is none, it is damaged, or it holds more than weights.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_run(path, checkpoint)
    if not path.is_file():
        raise UserError(f"there are no weights at {path}")
    if checkpoint:
        raise UserError(
            f"{path} is a file of weights, which has no checkpoint {checkpoint}: leave "
            "that out"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLES:
        return Weights(path, _read_pickle(path), None)
    raise UserError(
        f"{path} is no file of weights: give a .safetensors, {', '.join(PICKLES)}, or "
        "the folder of a run"
    )


def write(
    path: str | os.PathLike,
    arrays: Arrays,
    spec: dict | None = None,
    classes: Sequence[str] | None = None,
    pixels: dict[str, Any] | None = None,
) -> None:
    """Writes a `.safetensors` file, whole or not at all.

    Args:
      path: of the file.
      arrays: by name.
      spec: kept for `read`.
      classes: names in the order of the logits, kept for `read`.
      pixels: how images are decoded and normalized, kept for `read`.

    Raises:
      UserError: no such folder.
      OSError: the file cannot be written.
    """
    path = Path(path).expanduser()
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} to")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file to write")
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    scratch = path.with_name(f".{path.name}.tmp")
    known = {SPEC: spec, CLASSES: classes and list(classes), PIXELS: pixels}
    metadata = {key: json.dumps(value) for key, value in known.items() if value}
    try:
        save_file(arrays, scratch, metadata=metadata or None)
        os.replace(scratch, path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {first_line(error)}") from None
    finally:
        scratch.unlink(missing_ok=True)


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="np") as file:
            metadata, names = file.metadata() or {}, file.keys()
            arrays = {name: _float32(file.get_tensor(name)) for name in names}
        known = {key: json.loads(metadata.get(key, "null")) for key in KEYS}
        spec = _checked(known[SPEC]) if SPEC in metadata else None
        return Weights(
            path, arrays, spec, classes=_names(known[CLASSES]), pixels=known[PIXELS]
        )
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file of weights ({first_line(error)})"
        ) from None


def _read_pickle(path: Path) -> Arrays:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is PyTorch's: pip install torch to read it, or convert it to "
            ".safetensors where there is one"
        ) from None
    try:
        # timm's own checkpoints hold their command's arguments too, which are plain.
        with (
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals([argparse.Namespace]),
        ):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return {
            name.removeprefix("module.").removeprefix("_orig_mod."): _float32(
                tensor.detach().float() if tensor.is_floating_point() else tensor
            )
            for name, tensor in _state_dict(content).items()
        }
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise UserError(
                f"{path} holds more than weights, and opening it could run code "
                f"({_refused(error)}): it was not opened; take a .safetensors file"
            ) from None
        raise UserError(f"{path} is damaged, or no file of PyTorch's") from None
    except Exception as error:  # torch raises many kinds
        what = first_line(error).split(". ")[0]
        raise UserError(f"{path} is damaged or holds no weights ({what})") from None


def _refused(error: Exception) -> str:
    """What of a pickle was refused, out of PyTorch's paragraphs."""
    lines = (line.strip() for line in str(error).splitlines() if "GLOBAL" in line)
    return next(lines).split(" Please use")[0].split(" was not an allowed")[0]


def _state_dict(content: Any) -> dict[str, Any]:
    """The tensors of a checkpoint by name.

    Raises:
      ValueError: it has none.
    """
    if not isinstance(content, dict):
        raise ValueError("no state dict")
    nested = (content[key] for key in STATE_DICTS if isinstance(content.get(key), dict))
    state = {
        name: tensor
        for name, tensor in next(nested, content).items()
        if isinstance(name, str) and hasattr(tensor, "is_floating_point")
    }
    if not state:
        raise ValueError("no state dict")
    return state


def _read_run(path: Path, checkpoint: str) -> Weights:
    folder = RunFolder(path)
    saved = CheckpointReader(folder.checkpoints)
    if not saved.steps:
        raise UserError(f"{path} is no folder of a run that saved a checkpoint")
    variables = saved.load_variables(folder.choose(saved, checkpoint))
    arrays = {
        name: np.asarray(array)
        for name, array in flatten_dict(variables, sep="/").items()
    }
    try:
        spec = _checked(folder.read_model())
        classes = _names(folder.read_classes())
        pixels = folder.read_pixels(spec["channels"])
    except ValueError as error:
        raise UserError(f"{path} holds no run of ours: {error}") from None
    return Weights(path, arrays, spec, saved.notes, classes, pixels)


def _checked(spec: Any) -> dict[str, Any]:
    """The arguments of `create_model` and `channels`, as this project wrote them.

    Raises:
      ValueError: somebody else did.
    """
    if not isinstance(spec, dict) or not {"name", "channels"} <= spec.keys():
        raise ValueError("its metadata describe no model")
    return spec


def _names(classes: Any) -> tuple[str, ...] | None:
    """Names of classes, None where there are none.

    Raises:
      ValueError: they are no names.
    """
    if classes is None:
        return None
    if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise ValueError("its metadata hold no names of classes")
    return tuple(classes)


def _float32(array: Any) -> np.ndarray:
    array = np.asarray(array)
    if np.iscomplexobj(array):
        raise ValueError("complex numbers")
    return array.astype(np.float32)
