"""Features of images that are computed without labels.

Shapes: N images, h x w pixels, C channels, F features, K patches, d numbers in a patch.
"""

from collections.abc import Callable

import numpy as np

Features = Callable[[np.ndarray], np.ndarray]  # `[N, h, w, C]` to `[N, F]`

PATCHES = 20_000  # patches that are drawn to compute the whitening
COMPARED = 400  # the first of these, which images are compared with
BLOCK = 32  # images at once


def pixels(images: np.ndarray, seed: int) -> Features:
    """Return features that are scaled pixels, with `|x|^2` equal to 1 on average.

    All pixels share one mean and one standard deviation. So distances do not depend on
    contrast or on the number of pixels, and one grid of parameters suits all data sets.

    Args:
      images: training images `[N, h, w, C]`.
      seed: not used.
    """
    del seed
    mean, std = images.mean(), images.std() or 1.0
    factor = 1 / (std * np.sqrt(images[0].size))
    return lambda x: ((x - mean) * factor).reshape(len(x), -1)


def random_patches(images: np.ndarray, seed: int) -> Features:
    """Return features that compare whitened patches with random patches.

    The patch at every position is whitened (ZCA). Its distances `z` to 400 random
    patches of the training images give activations `max(0, mean_k z - z_k)`. The
    features are the sums of the activations over the four quadrants of the image.

    Args:
      images: training images `[N, h, w, C]`.
      seed: seed of the random patches.

    Source: Coates, Lee & Ng 2011, An Analysis of Single-Layer Networks; random patches
    instead of means as in Coates & Ng 2011, The Importance of Encoding Versus Training.
    """
    rng = np.random.default_rng(seed)
    height, width = images.shape[1:3]
    side = min(max(3, round(0.1875 * min(height, width))), height, width)  # 6 of 32
    rows = rng.integers(len(images), size=PATCHES)
    tops = rng.integers(height - side + 1, size=PATCHES)
    lefts = rng.integers(width - side + 1, size=PATCHES)
    drawn = _windows(images, side)[rows, tops, lefts].reshape(PATCHES, -1)
    drawn = _normalize(drawn)
    mean = drawn.mean(0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(drawn, rowvar=False)))
    whiten = ((vectors / np.sqrt(values + 0.1)) @ vectors.T).astype(np.float32)
    centers = (drawn[:COMPARED] - mean) @ whiten
    constants = (centers**2).sum(1)

    def encode(block: np.ndarray) -> np.ndarray:
        windows = _windows(block, side)
        maps = windows.shape[1:3]
        x = (_normalize(windows.reshape(-1, mean.size)) - mean) @ whiten
        z = (-2 * x) @ centers.T
        z += (x**2).sum(1, keepdims=True) + constants
        np.sqrt(np.maximum(z, 0, out=z), out=z)
        activations = np.maximum(z.mean(1, keepdims=True) - z, 0, out=z)
        return _pool(activations.reshape(len(block), *maps, -1))

    return lambda x: np.concatenate(
        [encode(x[i : i + BLOCK]) for i in range(0, len(x), BLOCK)]
    )


def _windows(images: np.ndarray, side: int) -> np.ndarray:
    """Return a view of every patch, `[N, h', w', C, side, side]`."""
    return np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))


def _normalize(patches: np.ndarray) -> np.ndarray:
    """Scale patches `[K, d]` from 0 to 255 to contrast 1; weak noise stays weaker."""
    centered = patches - patches.mean(1, keepdims=True)
    return centered / np.sqrt(centered.var(1, keepdims=True) + 10)


def _pool(maps: np.ndarray) -> np.ndarray:
    """Sum `[N, h', w', K]` over quadrants; return `[N, 4 K]`."""
    y, x = (n // 2 for n in maps.shape[1:3])
    quadrants = (maps[:, :y, :x], maps[:, :y, x:], maps[:, y:, :x], maps[:, y:, x:])
    return np.concatenate([quadrant.sum((1, 2)) for quadrant in quadrants], axis=1)
