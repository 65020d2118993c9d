"""Networks to measure: variants of a model, and trained runs."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.augment import normalize, to_float
from hybrid_jax.config.schema import FIELDS
from hybrid_jax.equivariance.agreement import Batch
from hybrid_jax.equivariance.measures import Forward, Scores
from hybrid_jax.errors import UserError
from hybrid_jax.evaluation.evaluate import default_split
from hybrid_jax.json_files import read_json
from hybrid_jax.models import create_model
from hybrid_jax.programs.inference import batch_size_for, read_batches
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import open_run
from hybrid_jax.runs.run import Run
from hybrid_jax.runtime import jit_once
from hybrid_jax.training.losses import LOSSES, exclusive_scores

TRAINED, RANDOM = "trained", "random"
BATCH = 64  # images at a time
CHANNELS, CLASSES = 3, 10  # of a model without a run
SIZE = 32  # side of its images in pixels, unless a field gives another
SEEDS = ("seed", "data.split_seed")  # runs that differ in these alone are one row

# Variants that a model is compared with, unless the user sets one of their fields.
TORUS = {"padding": "circular", "relative_bias": "torus"}
VARIANTS: dict[str, dict[str, str]] = {
    "": {},
    "circular, torus": TORUS,
    "circular, torus, blur": TORUS | {"downsample": "blur"},
    "circular, torus, aps": TORUS | {"downsample": "aps"},
}

VARIANT_FIELDS = tuple(dict.fromkeys(name for row in VARIANTS.values() for name in row))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A network, its weights, and images for it.

    Attributes:
      row: title of its row in the tables.
      name: its own name, such as a run's folder.
      weights: `TRAINED` or `RANDOM`.
      model: the Flax module, in the precision of the measurement.
      channels: channels of the images.
      split: returns the name of the images' split; an empty one for noise.
      load: returns its variables.
      batches: yields its images.
      scores: maps logits to scores, whose softmax gives the probabilities.
    """

    row: str
    name: str
    weights: str
    model: Any
    channels: int
    split: Callable[[], str]
    load: Callable[[], dict]
    batches: Callable[[], Iterator[Batch]]
    scores: Scores = exclusive_scores

    def forward(self) -> Forward:
        """Return the network with its weights on the device."""
        return Forward(self.model, self.load(), self.scores)

    def first_images(self, count: int) -> np.ndarray:
        """Return the first `count` images `[n, H, W, C]`, or all if there are fewer."""
        parts, missing = [], count
        for batch in self.batches():
            parts.append(np.asarray(batch.images)[: min(batch.count, missing)])
            missing -= len(parts[-1])
            if not missing:
                break
        return np.concatenate(parts)


class Found(NamedTuple):
    """Networks to measure.

    Attributes:
      subjects: the networks, those of one row together, in the order of the tables.
      notes: what is left out and why, in words.
    """

    subjects: list[Subject]
    notes: list[str]


def random_variables(model: Any, channels: int, dtype: Any, seed: int) -> dict:
    """Initialize a network, with random running statistics instead of 0 and 1."""
    images = jnp.zeros((1, *model.image_size, channels), dtype)
    variables: dict = jit_once(model.init)(jax.random.key(seed), images)
    rng = np.random.default_rng(seed)

    def draw(path: Any, x: jax.Array) -> np.ndarray:
        values = rng.normal(0, 0.2, x.shape)
        return np.exp(values) if path[-1].key == "var" else values

    found = {**variables}
    if "batch_stats" in found:
        found["batch_stats"] = jax.tree.map_with_path(draw, found["batch_stats"])
    return as_type(found, dtype)


def as_type(variables: dict, dtype: Any) -> dict:
    """Return variables in another precision, on the host."""
    return jax.tree.map(lambda x: np.asarray(x).astype(dtype), variables)


def noise_batches(
    shape: tuple[int, ...], count: int, dtype: Any, seed: int
) -> Iterator[Batch]:
    """Yield batches of `count` images of normal noise, without labels.

    Args:
      shape: `(H, W, C)` of an image.
      count: number of images.
      dtype: of the images.
      seed: seed of the noise.
    """
    rng = np.random.default_rng(seed)
    size = batch_size_for(BATCH, count)
    for first in range(0, count, size):
        images = rng.normal(size=(size, *shape)).astype(dtype)
        yield Batch(images, None, min(size, count - first))


def variants_of(
    name: str, fields: dict[str, Any], images: int, dtype: Any, seed: int
) -> Found:
    """Return a model and its `VARIANTS`, with random weights and images of noise.

    Args:
      name: name of the model.
      fields: other arguments of `create_model`. If they set a field that `VARIANTS`
        set, the model has no variants.
      images: number of images of noise.
      dtype: of all computation.
      seed: seed of weights and images.

    Raises:
      UserError: there is no such model.
    """
    fields = {"image_size": SIZE, "num_classes": CLASSES} | fields
    is_chosen = any(field in fields for field in VARIANT_FIELDS)
    subjects: list[Subject] = []
    refused: dict[str, list[str]] = {}
    for title, changed in VARIANTS.items():
        if title and is_chosen:
            continue
        try:
            model = create_model(name, **fields | changed, dtype=dtype)
        except (ValueError, TypeError) as error:
            if not title:
                raise UserError(f"--model={name}: {error}") from None
            refused.setdefault(str(error), []).append(title)
            continue
        shape = (*model.image_size, CHANNELS)
        subjects.append(
            Subject(
                row=", ".join(filter(None, [name, title])),
                name=f"seed {seed}",
                weights=RANDOM,
                model=model,
                channels=CHANNELS,
                split=lambda: "",
                load=functools.partial(random_variables, model, CHANNELS, dtype, seed),
                batches=functools.partial(noise_batches, shape, images, dtype, seed),
            )
        )
    notes = [
        f"{name} is not measured as {'; '.join(titles)}: {error}"
        for error, titles in refused.items()
    ]
    return Found(subjects, notes)


def runs_of(
    workdirs: Sequence[str],
    checkpoint: str,
    changed: dict[str, Any],
    weights: Sequence[str],
    dtype: Any,
) -> Found:
    """Return runs with images of their test split, or else validation, or else train.

    Args:
      workdirs: folders; runs of the same data that differ in `SEEDS` alone share a row.
      checkpoint: see `load_run`.
      changed: values that replace those of the stored configs, by name of a free field.
      weights: `TRAINED`, `RANDOM` or both; random weights are initialized with the seed
        of the row's first run.
      dtype: of all computation.

    Raises:
      UserError: there is no such run or checkpoint, or its images are not there.
    """
    rows: dict[str, list[Run]] = {}
    for workdir in workdirs:
        run = open_run(RunFolder(workdir), checkpoint, changed)
        rows.setdefault(_settings(run), []).append(run)
    titles = [_title(runs[0]) for runs in rows.values()]
    subjects = []
    for title, runs in zip(titles, rows.values(), strict=True):
        row = title
        if titles.count(title) > 1:
            row = f"{title} ({runs[0].workdir})"
        kinds = [(TRAINED, run) for run in runs] + [(RANDOM, runs[0])]
        subjects += [
            _subject(run, row, kind, dtype) for kind, run in kinds if kind in weights
        ]
    notes = [note for runs in rows.values() for run in runs for note in run.notes]
    return Found(subjects, notes)


def _settings(run: Run) -> str:
    """Return the settings that all runs of a row share, as text."""
    flat = run.config.flat()
    kept = {k: v for k, v in flat.items() if not FIELDS[k].free and k not in SEEDS}
    # The path of the data is no setting, but other files are other data. Published data
    # have no hash of their files, and can differ only in what is left out.
    stored = RunFolder(str(run.workdir)).data
    files = read_json(stored).get("files") if stored.exists() else ""
    return repr((kept, run.classes, run.form, files or run.config.data.exclude))


def _title(run: Run) -> str:
    """Return the model's name, with its values of `VARIANT_FIELDS` but for defaults."""
    values = vars(run.config.model)
    chosen = [
        values[name]
        for name in VARIANT_FIELDS
        if values[name] != FIELDS[f"model.{name}"].default
    ]
    return ", ".join([run.config.model.name, *chosen])


def _subject(run: Run, row: str, weights: str, dtype: Any) -> Subject:
    model = run.model.clone(dtype=dtype)
    channels = run.network.mean.shape[0]
    seed = run.config.seed
    load = {
        TRAINED: functools.partial(_trained_variables, run, dtype),
        RANDOM: functools.partial(random_variables, model, channels, dtype, seed),
    }[weights]
    return Subject(
        row=row,
        name=str(run.workdir),
        weights=weights,
        model=model,
        channels=channels,
        split=functools.partial(default_split, run),
        load=load,
        batches=functools.partial(_run_batches, run, dtype),
        scores=LOSSES[run.network.loss.name].scores,
    )


def _trained_variables(run: Run, dtype: Any) -> dict:
    return as_type(run.variables, dtype)


def _run_batches(run: Run, dtype: Any) -> Iterator[Batch]:
    """Yield the images of a run as its network takes them."""
    split, network = run.get_split(default_split(run)), run.network

    @jax.jit
    def prepare(images: jax.Array, extents: jax.Array | None) -> jax.Array:
        resized = to_float(images, network.image_size, extents, network.fit)
        return normalize(resized, network.mean, network.std).astype(dtype)

    missing, size = len(split), batch_size_for(BATCH, len(split))
    for images, labels, extents in read_batches(split, size, run.config.data.workers):
        count = min(missing, size)
        yield Batch(prepare(images, extents), labels[:count], count)
        missing -= count
