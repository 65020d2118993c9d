"""Find copies by the features of a trained network, where pixels do not overlap.

The distance of two images is 1 minus the cosine of their pooled features, from which
the mean of all features is subtracted. As with pixels, the similarity of a pair is
relative to the distances of other images.
"""

import dataclasses
import functools
import sys

import jax
import numpy as np

from hybrid_jax.augment import normalize, to_float
from hybrid_jax.data.lazy_images import LazyImages, parallel_map
from hybrid_jax.errors import escape
from hybrid_jax.inspection.candidates import CANDIDATES
from hybrid_jax.inspection.near_duplicates import (
    BY_FEATURES,
    DENSE_QUANTILE,
    MIN_SIMILARITY,
    Pair,
)
from hybrid_jax.inspection.scan import ScannedImages
from hybrid_jax.models.features import extract_features
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import open_run

BLOCK = 128


def find(workdir: str, images: ScannedImages) -> list[Pair]:
    """Find pairs with similar features of a run's network, the most similar first.

    Args:
      workdir: the folder of a run that saved a checkpoint.
      images: images of the data set; the run may have been trained on other images.

    Raises:
      UserError: there is no such run, or the run cannot be read.
    """
    features = _features(workdir, images)

    def compare(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        count = rows.stop - rows.start
        block = np.resize(features[rows], (BLOCK, features.shape[1]))
        # One more, since each image is most similar to itself.
        cosine, other = _best(block, features, min(CANDIDATES + 1, len(features)))
        return np.asarray(other)[:count], 1 - np.asarray(cosine)[:count]

    compared = parallel_map(compare, len(features), "comparing features", BLOCK)
    others, distances = map(np.concatenate, zip(*compared, strict=True))
    neighbor_distance = distances[:, -1]
    neighbor_distance = np.maximum(
        neighbor_distance,
        max(float(np.quantile(neighbor_distance, DENSE_QUANTILE)), 1e-6),
    )
    similarity = 1 - distances / np.sqrt(
        neighbor_distance[:, None] * neighbor_distance[others]
    )
    found = {
        Pair(
            min(row, int(others[row, column])),
            max(row, int(others[row, column])),
            round(float(similarity[row, column]), 4),
            band=BY_FEATURES,
        )
        for row, column in np.argwhere(similarity >= MIN_SIMILARITY).tolist()
        if others[row, column] != row
    }
    return sorted(found, key=lambda pair: (-pair.similarity, pair))


def _features(workdir: str, images: ScannedImages) -> np.ndarray:
    """Return features without their mean and of unit norm, float32 `[N, D]`."""
    run = open_run(RunFolder(workdir), None, {})
    for note in run.notes:
        print(escape(note), file=sys.stderr)
    network, variables = run.network, run.variables
    form = dataclasses.replace(run.form, size=network.image_size, target=None)
    encoded = LazyImages(images.records, form, images.rows)

    @jax.jit
    def pooled(pixels: jax.Array) -> jax.Array:
        inputs = to_float(pixels, network.image_size)
        inputs = normalize(inputs, network.mean, network.std)
        return extract_features(run.model, variables, inputs).pooled

    def extract(rows: slice) -> np.ndarray:
        pixels = encoded[rows]
        pixels = np.resize(pixels, (BLOCK, *pixels.shape[1:]))
        return np.asarray(pooled(pixels), np.float32)[: rows.stop - rows.start]

    extracted = parallel_map(extract, len(images), "looking with the network", BLOCK)
    features = np.concatenate([*extracted])
    features -= features.mean(0)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)


@functools.partial(jax.jit, static_argnums=2)
def _best(block: jax.Array, features: jax.Array, count: int) -> tuple:
    return jax.lax.top_k(block @ features.T, count)
