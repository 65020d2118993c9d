"""Describe a run in words and numbers: training, network, config and data."""

import statistics
from typing import Any, NamedTuple

from hybrid_jax.config.field import as_typed
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.console import duration
from hybrid_jax.data.dataset import SPLITS, images_of_split
from hybrid_jax.errors import plural
from hybrid_jax.models.cost import Cost
from hybrid_jax.models.strides import format_size
from hybrid_jax.runs.run import Run

# Titles of the entries of `data.json` that tell data apart, wherever they lie.
HASHES = {name: f"SHA-256 of {name}" for name in ("labels", "files")}


class FieldRow(NamedTuple):
    """A field of a config with its value.

    Attributes:
      name: such as `optim.learning_rate`.
      value: in words.
      default: in words.
      meaning: in words.
    """

    name: str
    value: str
    default: str
    meaning: str


def value_in_words(value: Any) -> str:
    """Return the value of a field as the command line takes it, or `(empty)`."""
    return as_typed(value) or "(empty)"


def fields(config: Config) -> tuple[list[FieldRow], list[FieldRow]]:
    """Return the fields that differ from their defaults, and the others."""
    changed: list[FieldRow] = []
    others: list[FieldRow] = []
    for name, value in config.flat().items():
        field = FIELDS[name]
        words = value_in_words(value), value_in_words(field.default)
        row = FieldRow(name, *words, field.meaning)
        (others if value == field.default else changed).append(row)
    return changed, others


def counts(data: dict[str, Any]) -> dict[str, int]:
    """Return how many images each split had when the run was trained, by its name."""
    found = {name: data.get(images_of_split(name)) for name in SPLITS}
    return {name: count for name, count in found.items() if count}


def training(run: Run, data: dict[str, Any]) -> dict[str, str]:
    """Return model, data, steps and time of the training, in words by name.

    Args:
      run: the run.
      data: the entries of `data.json`.
    """
    config, done = run.config, run.results or {}
    height, width, channels = data.get("height, width and channels", (0, 0, 0))
    kind = {1: "gray", 3: "color"}.get(channels, plural(channels, "channel"))
    seen = format_size(run.network.image_size)
    stored = "of several sizes, stored within" if run.form.target else "stored as"
    images = ", ".join(f"{n:,} {name}" for name, n in counts(data).items())
    found = {
        "model": config.model.name,
        "data set": config.data.title,
        "images": images,
        "classes": f"{len(run.classes):,}",
        "size of images": f"{stored} {height}x{width} px, {kind}; the network sees "
        f"{seen} px",
    }
    if "step" in done:
        found["steps"] = f"{done['step']:,} of {config.train.batch_size:,} images"
    if "seconds" in done:
        found["time"] = duration(done["seconds"])
    rates = [
        row["images_per_second"]
        for row in run.history
        if row.get("split") == "train" and "images_per_second" in row
    ]
    if rates:
        found["throughput"] = f"{statistics.median(rates):,.0f} images/s (median)"
    return found


def network(cost: Cost) -> dict[str, str]:
    """Return parameters, and operations for one image, in words by name."""
    return {
        "parameters": f"{cost.parameters:,}",
        "multiply-accumulates": f"{cost.macs / 1e6:,.1f} million for an image",
        "FLOPs": f"{2 * cost.macs / 1e6:,.1f} million, 2 for each multiply-accumulate",
    }


def parts(cost: Cost) -> list[list[str]]:
    """Return name, shape, parameters and multiply-accumulates of each part."""
    return [
        [p.name, format_size(p.shape), f"{p.parameters:,}", f"{p.macs:,}"]
        for p in cost.parts
    ]


def identity(data: dict[str, Any]) -> dict[str, str]:
    """Return the entries of `data.json` that identify the run's data, in words."""
    left_out = {"classes"}  # the page has a table of them
    found = {
        name: _entry(value)
        for name, value in data.items()
        if name not in left_out and value not in ("", None)
    }
    for name, title in HASHES.items():
        if name in found:
            found[title] = found.pop(name)
    return found


def _entry(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_entry(inside)}" for name, inside in value.items())
    if isinstance(value, list):
        is_size = all(isinstance(inside, int) for inside in value)
        return ("x" if is_size else ", ").join(map(_entry, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
