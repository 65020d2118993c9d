"""Tables of relative bias: over the offsets of a map, or over those of a torus.

Shapes: `N` heads; a map of `H W` has offsets `[2H - 1, 2W - 1]`, a torus `[H, W]`.
"""

import jax
import numpy as np


def resize_table(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize a bias table to another resolution, bilinearly over offsets.

    Args:
      table: `[2h - 1, 2w - 1, N]`.
      shape: `(2H - 1, 2W - 1, N)`.
    """
    return np.asarray(jax.image.resize(table, shape, "bilinear"))


def unfold_torus(table: np.ndarray) -> np.ndarray:
    """Repeat the table of a torus, `[H, W, N]`, as one of a map, `[2H - 1, 2W - 1, N]`.

    Attention computes the same with both tables.
    """
    rows, columns = (np.arange(1 - n, n) % n for n in table.shape[:2])
    return table[rows][:, columns]


def fold_to_torus(table: np.ndarray) -> np.ndarray:
    """Return the table of a torus, `[H, W, N]`, that is closest to one of a map.

    Offsets that coincide on the torus get their mean, each weighted by the number of
    pairs of positions at that offset: the least-squares solution over all pairs. Of a
    table that `unfold_torus` returned, this is the table that it was given.

    Args:
      table: `[2H - 1, 2W - 1, N]`.
    """
    height, width = ((n + 1) // 2 for n in table.shape[:2])
    torus = table[height - 1 :, width - 1 :]  # offsets from 0
    if np.array_equal(unfold_torus(torus), table):
        return torus.astype(np.float32)
    for axis in (0, 1):
        length = (table.shape[axis] + 1) // 2
        pairs = length - np.abs(np.arange(1 - length, length))
        weighted = np.moveaxis(table, axis, 0) * pairs[:, None, None]
        summed = weighted[length - 1 :].copy()  # offsets from 0
        summed[1:] += weighted[: length - 1]  # and those that are less than 0
        table = np.moveaxis(summed / length, 0, axis)
    return table.astype(np.float32)
