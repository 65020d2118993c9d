"""Copies that a trained network tells, where pixels do not lie over each other.

Images are as alike as the pooled features of a run's network, without the mean of all:
their cosine. As with pixels, a pair is judged by how far other images are.
"""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import hybrid_jax
from hybrid_jax.data.augment import normalise, to_float
from hybrid_jax.data.encoded import Encoded, choose_form, mapped
from hybrid_jax.errors import UserError
from hybrid_jax.inspect_data.candidates import KEPT
from hybrid_jax.inspect_data.duplicates import BY_FEATURES, DENSEST, LEAST, Pair
from hybrid_jax.inspect_data.images import Images
from hybrid_jax.paths import expanded
from hybrid_jax.training.weights import merged, read

BLOCK = 128


def find(run: str, images: Images, fit: str) -> list[Pair]:
    """Pairs that the network of a run finds alike, the most alike first.

    Args:
      run: the folder of a training with a checkpoint.
      images: of the data set; they need not be those that it was trained on.
      fit: row of `data.pixels.FITS`, for images of another shape than its inputs.

    Raises:
      UserError: there is no such run, or it cannot be read.
    """
    features = _features(run, images, fit)

    def compare(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        count = rows.stop - rows.start
        block = np.resize(features[rows], (BLOCK, features.shape[1]))
        # The image itself is among them.
        cosine, other = _best(block, features, min(KEPT + 1, len(features)))
        return np.asarray(other)[:count], 1 - np.asarray(cosine)[:count]

    compared = mapped(compare, len(features), "comparing features", BLOCK)
    others, apart = map(np.concatenate, zip(*compared, strict=True))
    usual = apart[:, -1]
    usual = np.maximum(usual, max(float(np.quantile(usual, DENSEST)), 1e-6))
    likeness = 1 - apart / np.sqrt(usual[:, None] * usual[others])
    found = {
        Pair(
            min(row, int(others[row, place])),
            max(row, int(others[row, place])),
            round(float(likeness[row, place]), 4),
            band=BY_FEATURES,
        )
        for row, place in np.argwhere(likeness >= LEAST).tolist()
        if others[row, place] != row
    }
    return sorted(found, key=lambda pair: (-pair.likeness, pair))


def _features(run: str, images: Images, fit: str) -> np.ndarray:
    """Features without their mean and of unit norm, float32 `[N, D]`."""
    weights = read(run)
    spec = dict(weights.spec or {})
    channels = spec.pop("channels", 3)
    model = hybrid_jax.create_model(**spec)
    size = tuple(spec["image_size"])
    shape = jax.ShapeDtypeStruct((1, *size, channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), shape)
    variables = merged(variables, weights.arrays)
    mean, deviation = _statistics(expanded(run) / "data.json")
    found = images.found
    form = choose_form(images.facts, size, fit, found.background, found.title)
    form = dataclasses.replace(form, size=size, channels=channels, target=None)
    encoded = Encoded(images.records, form, images.rows)

    @jax.jit
    def pooled(pixels: jax.Array) -> jax.Array:
        inputs = normalise(to_float(pixels, size), mean, deviation)
        return hybrid_jax.extract_features(model, variables, inputs).pooled

    def look(rows: slice) -> np.ndarray:
        pixels = encoded[rows]
        pixels = np.resize(pixels, (BLOCK, *pixels.shape[1:]))
        return np.asarray(pooled(pixels), np.float32)[: rows.stop - rows.start]

    looked = mapped(look, len(images), "looking with the network", BLOCK)
    features = np.concatenate([*looked])
    features -= features.mean(0)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)


def _statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel that the run's network was trained with."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["mean and deviation"]
        mean, deviation = np.array(values, np.float32).reshape(2, -1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not tell mean and deviation: {error}") from None
    return mean, deviation


@functools.partial(jax.jit, static_argnums=2)
def _best(block: jax.Array, features: jax.Array, count: int) -> tuple:
    return jax.lax.top_k(block @ features.T, count)
