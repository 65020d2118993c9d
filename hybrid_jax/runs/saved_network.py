"""A trained network as two files: weights in safetensors, and what they mean in JSON.

model.safetensors    the weights, with the network, its classes and its pixel format
classifier.json      config, results, history, and the labels of the classes

An exported folder in timm's format has both as well, the weights under timm's names.
"""

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from hybrid_jax import runtime
from hybrid_jax.config import stored
from hybrid_jax.config.resolve import resolve
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.errors import UserError
from hybrid_jax.json_files import read_json, write_json
from hybrid_jax.programs.experiment import model_spec, with_statistics
from hybrid_jax.runs.load_run import network_from_spec
from hybrid_jax.runs.lost_images import no_splits
from hybrid_jax.runs.run import Run
from hybrid_jax.runs.stored_results import unreadable_entry
from hybrid_jax.training.step import Network
from hybrid_jax.weights.files import (
    Weights,
    fit_exactly,
    read_file,
    shapes_of,
    write_file,
)
from hybrid_jax.weights.timm_models import Arrays

WEIGHTS, ABOUT = "model.safetensors", "classifier.json"
SCHEMA = "schema"  # entry of `ABOUT`: version of its config


def save_network(run: Run, folder: Path, **about: Any) -> None:
    """Write the network of a run; the folder is made if need be.

    Args:
      run: run to save.
      folder: folder to write to.
      **about: more entries of `ABOUT`, fit for JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = flatten_dict(jax.tree.map(np.asarray, run.variables), sep="/")
    write_weights(run, folder, arrays)
    write_about(run, folder, history=run.history, **about)


def write_weights(run: Run, folder: Path, arrays: Arrays) -> None:
    """Write weights into a folder, with the network, its classes and its pixel format.

    Args:
      run: run of the weights.
      folder: folder to write to.
      arrays: weights under this project's names or timm's; timm ignores the metadata.
    """
    statistics = {"mean": run.network.mean, "deviation": run.network.std}
    pixels = {name: np.asarray(x).tolist() for name, x in statistics.items()}
    spec = model_spec(run.config.model, run.model, run.form.channels)
    write_file(folder / WEIGHTS, arrays, spec, run.classes, run.form.to_json() | pixels)


def write_about(run: Run, folder: Path, **about: Any) -> None:
    """Write the JSON file that says what the weights in a folder mean.

    Args:
      run: run of the weights.
      folder: folder to write to.
      **about: more entries, or replaced ones, fit for JSON.
    """
    found = {
        SCHEMA: stored.SCHEMA,
        "config": stored.nested(run.config),
        "checkpoint": run.checkpoint,
        "results": run.results,
        "history": [],
    }
    write_json(folder / ABOUT, found | about)


def load_network(folder: Path) -> Run:
    """Return the run of a folder that holds weights and `ABOUT`.

    The weights have this project's names or timm's.

    Raises:
      UserError: a file is missing or damaged, or see `check_device`.
    """
    runtime.check_device()
    weights = read_file(folder / WEIGHTS)
    if not (folder / ABOUT).exists():
        raise UserError(
            f"{folder} holds weights without {ABOUT}, which says what they mean: save "
            "the classifier or export the run again"
        )
    about = read_json(folder / ABOUT)
    try:
        assert weights.spec and weights.pixels and weights.classes
        schema = stored.check_schema(about[SCHEMA], folder)
        config = stored.read(about["config"], schema, folder)
        pixels = dict(weights.pixels)
        statistics = (
            np.array(pixels.pop("mean"), np.float32),
            np.array(pixels.pop("deviation"), np.float32),
        )
        form = PixelFormat.from_json(pixels)
        _check_channels(weights, form, statistics)
        steps, results = about["checkpoint"], about["results"]
        checkpoint = tuple(map(int, steps)) if isinstance(steps, list) else int(steps)
        if checkpoint == () or (results and unreadable_entry(dict(results))):
            raise ValueError("results of no checkpoint")
        history = [*about["history"]]
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder} holds no readable classifier ({error!r}): save it again"
        ) from None
    stored.check_rows(config, str(folder))
    config = resolve(config, is_stored=True)
    network = network_from_spec(
        weights.spec,
        folder / WEIGHTS,
        dtype=config.dtype,
        fit=config.data.fit,
        loss=config.loss,
    )
    return Run(
        config=config,
        network=with_statistics(network, statistics),
        classes=weights.classes,
        form=form,
        checkpoint=checkpoint,
        variables=functools.partial(_variables, weights, network),
        splits=no_splits,
        results=results,
        history=history,
    )


def _check_channels(
    weights: Weights, form: PixelFormat, statistics: tuple[np.ndarray, np.ndarray]
) -> None:
    """Check that images have the channels that the network takes.

    Raises:
      AssertionError, KeyError, TypeError, ValueError: names what is wrong.
    """
    assert weights.spec
    channels = weights.spec["channels"]
    if {channels} != {form.channels, *(len(array) for array in statistics)}:
        raise ValueError(f"statistics of other than {channels} channels")


def _variables(weights: Weights, network: Network) -> dict[str, Any]:
    """Return the variables of a network from its weights.

    Raises:
      UserError: the weights are of another network, or some fit it only after a change.
    """
    model: Any = network.model
    images = jax.ShapeDtypeStruct((1, *network.image_size, len(network.mean)), "f4")
    like = jax.eval_shape(model.init, jax.random.key(0), images)
    return unflatten_dict(fit_exactly(model, weights, shapes_of(like)), sep="/")
