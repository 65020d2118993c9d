"""Write a network as a folder that timm loads, `timm.create_model("local-dir:…")`.

Such a folder can be uploaded to the Hugging Face Hub as it is. `Classifier` reads it
too, by its file `ABOUT`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from hybrid_jax.augment import to_float
from hybrid_jax.config import stored
from hybrid_jax.data.sources.estimator_inputs import LABELS
from hybrid_jax.errors import UserError, first_line
from hybrid_jax.export.about import resizing
from hybrid_jax.export.check import Reader
from hybrid_jax.export.model_card import PROBABILITIES, model_card
from hybrid_jax.export.program import in_float32
from hybrid_jax.json_files import read_json, write_json
from hybrid_jax.models.vit import ViT
from hybrid_jax.paths import library_path
from hybrid_jax.runs import same_run
from hybrid_jax.runs.run import Run
from hybrid_jax.runs.saved_network import ABOUT, WEIGHTS, write_about, write_weights
from hybrid_jax.training.losses import LOSSES
from hybrid_jax.weights.files import (
    fit_exactly,
    merge_arrays,
    read_file,
    shapes_of,
)
from hybrid_jax.weights.timm_models import Arrays, other_logits, timm_arguments
from hybrid_jax.weights.timm_names import to_timm

CONFIG, CARD = "config.json", "README.md"
OTHER_FORMATS = "give --format=onnx or --format=stablehlo"  # for messages
# timm's `crop_mode` that brings an image to the size, by the row of `image_io.FITS`.
CROP_MODES = {"crop": "center", "pad": "border", "stretch": "squash"}


def write(run: Run, folder: Path, temperature: float) -> None:
    """Write a folder with the weights, how to build and use the network, and a card.

    Raises:
      UserError: timm has no such network; names what it lacks.
    """
    if temperature != 1 and run.config.loss.name != "softmax":
        raise UserError(
            f"with the loss {run.config.loss.name}, a temperature does not divide the "
            "logits, and timm's classifier can do nothing else: leave --calibrated "
            f"out, or {OTHER_FORMATS}"
        )
    config = _config(run)
    classifier = config["pretrained_cfg"]["classifier"]
    state = to_timm(run.model, flatten_dict(run.variables, sep="/"))
    folder.mkdir()
    write_weights(run, folder, _divide_logits(state, classifier, temperature))
    write_json(folder / CONFIG, config)
    write_about(run, folder, config=_public_config(run), **_labels(run))
    card = model_card(run, config, temperature)
    (folder / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")


def _public_config(run: Run) -> dict[str, Any]:
    """Return the config to publish: of paths on this machine, the last part alone."""
    return stored.nested(run.config, lambda path: path.name)


def _labels(run: Run) -> dict[str, Any]:
    """Return the labels that `Classifier` noted in the run's folder, if it did."""
    if run.workdir is None or not (run.workdir / ABOUT).exists():
        return {}
    same_run.check(run)
    return {LABELS: read_json(run.workdir / ABOUT).get(LABELS)}


def load(folder: Path, run: Run) -> Reader:
    """Return a reader of the network in a folder: timm, or hybrid_jax without timm."""
    config = read_json(folder / CONFIG)["pretrained_cfg"]
    mean, std = jnp.array(config["mean"]), jnp.array(config["std"])
    size, loss = run.network.image_size, LOSSES[run.network.loss.name]
    in_timm = _in_timm(folder)
    apply: Callable[[np.ndarray], Any] = in_timm or _in_jax(folder, run)
    name = "timm" if in_timm else "hybrid_jax (timm cannot be imported)"

    def predict(images: np.ndarray) -> np.ndarray:
        scaled = (to_float(jnp.asarray(images), size) / 255 - mean) / std
        logits = jnp.asarray(apply(np.asarray(scaled)))
        return np.asarray(loss.probabilities(logits))

    return Reader(name, predict)


def _config(run: Run) -> dict[str, Any]:
    """Return the content of timm's `config.json`."""
    architecture, arguments = _timm_arguments(run)
    height, width = run.network.image_size
    is_vit = isinstance(run.model, ViT)
    mean, std = (
        np.asarray(x, float) / 255 for x in (run.network.mean, run.network.std)
    )
    return {
        "architecture": architecture,
        "num_classes": len(run.classes),
        "label_names": list(run.classes),
        "model_args": arguments | {"in_chans": run.form.channels},
        "pretrained_cfg": {
            "num_classes": len(run.classes),
            "input_size": [run.form.channels, height, width],
            "fixed_input_size": True,
            "pool_size": None,
            "interpolation": resizing(run),
            "crop_pct": 1.0,
            "crop_mode": CROP_MODES[run.form.fit],
            "mean": mean.tolist(),
            "std": std.tolist(),
            "first_conv": "patch_embed.proj" if is_vit else "stem.conv1",
            "classifier": "head" if is_vit else "head.fc",
        },
    }


def _timm_arguments(run: Run) -> tuple[str, dict[str, Any]]:
    """Return the name and arguments of timm's network that computes the same logits.

    Raises:
      UserError: timm has none.
    """
    try:
        architecture, arguments = timm_arguments(run.model)
    except ValueError as error:
        raise UserError(f"{error}: {OTHER_FORMATS}") from None
    if run.network.loss.name not in PROBABILITIES:
        raise UserError(
            f"timm has no probabilities of the loss {run.network.loss.name}: "
            f"{OTHER_FORMATS}"
        )
    for reason in other_logits(run.model):
        raise UserError(f"{reason}: {OTHER_FORMATS}")
    ours, theirs = tuple(run.network.image_size), tuple(arguments["img_size"])
    if ours != theirs:
        raise UserError(
            f"timm has this network for images of {theirs[0]}x{theirs[1]}, not of "
            f"{ours[0]}x{ours[1]}: {OTHER_FORMATS}"
        )
    return architecture, arguments


def _divide_logits(state: Arrays, classifier: str, temperature: float) -> Arrays:
    """Return a state dict whose classifier divides the logits by the temperature."""
    scaled = {
        name: (state[name] / temperature).astype(state[name].dtype)
        for name in (f"{classifier}.weight", f"{classifier}.bias")
    }
    return state | scaled


def _in_timm(folder: Path) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return timm's network, from `[N, H, W, C]` to logits; None without timm.

    The network raises a `UserError` where timm cannot run it.
    """
    try:
        import timm
        import torch
    except (ImportError, RuntimeError):  # RuntimeError: torchvision is for other torch
        return None
    network = timm.create_model(f"local-dir:{library_path(folder)}", pretrained=True)
    network = network.eval()

    def apply(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            nchw = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            try:
                logits: np.ndarray = network(torch.from_numpy(nchw)).numpy()
            except RuntimeError as error:
                raise UserError(
                    f"timm cannot run the exported network ({first_line(error)}), so "
                    f"nothing was kept: {OTHER_FORMATS}"
                ) from None
            return logits

    return apply


def _in_jax(folder: Path, run: Run) -> Callable[[np.ndarray], jax.Array]:
    """Return this project's network with the weights of the folder."""
    model = in_float32(run).model
    weights = read_file(folder / WEIGHTS)
    arrays = fit_exactly(model, weights, shapes_of(run.variables))
    variables = merge_arrays(run.variables, arrays)
    return lambda images: model.apply(variables, images)
