"""Weights of one network in another: other classes, resolution or channels."""

import math
import re
from typing import NamedTuple

import jax
import numpy as np

from hybrid_jax.models.interop import Arrays

CLASSIFIER = "params/head/classifier/"
# What first sees the image, and how its kernel shows the image's channels.
STEMS = ("params/stem/conv1/kernel", "params/patch_embedding/kernel")


class Fitted(NamedTuple):
    """Attributes:
    arrays: what was taken over, by path; the rest keeps its initial value.
    notes: what had to be changed, in words.
    """

    arrays: Arrays
    notes: list[str]


def fit(
    arrays: Arrays,
    shapes: dict[str, tuple[int, ...]],
    patches: tuple[int, int] | None = None,
    shown: dict[str, str] | None = None,
) -> Fitted:
    """Weights as a network needs them.

    A classifier of other classes is left out, bias tables and position embeddings are
    resized, and kernels of RGB images are adapted to other channels.

    Args:
      arrays: weights by path, of this network at any resolution.
      shapes: what the network expects, by path.
      patches: rows and columns of a ViT's patches.
      shown: names of paths for messages, where the arrays came under others.

    Raises:
      ValueError: lists every missing, surplus and misshapen array.
    """
    shown = shown or {}
    fitted, notes, misshapen = {}, [], []
    for path in [path for path in shapes if path in arrays]:
        array, shape = arrays[path], shapes[path]
        try:
            note, fitted[path] = _fit_one(path, array, shape, patches)
            notes += [note] if note and note not in notes else []
        except ValueError:
            name = shown.get(path, path)
            misshapen.append(f"{name} {array.shape} instead of {shape}")
    _refuse(
        missing=[shown.get(path, path) for path in shapes if path not in arrays],
        surplus=[path for path in arrays if path not in shapes],
        misshapen=misshapen,
    )
    kept = {path: array for path, array in fitted.items() if array is not None}
    return Fitted(kept, notes)


def _refuse(**wrong: list[str]) -> None:
    """Raises if anything is wrong, with all of it."""
    listed = [
        f"{len(names)} {what}: {', '.join(_gathered(names))}"
        for what, names in wrong.items()
        if names
    ]
    if listed:
        raise ValueError("; ".join(listed))


def _gathered(names: list[str]) -> list[str]:
    """Names, those of a stage's blocks as one: `blocks.{0,1,2}.norm1.bias`."""
    numbers = {}
    for name in names:
        head, block, tail = re.fullmatch(r"(.*?blocks?\.?)(\d+)(.*)|.*", name).groups()
        numbers.setdefault((head, tail) if head else (name, ""), []).append(block)
    return [
        head + (blocks[0] or "") + tail
        if len(blocks) == 1
        else f"{head}{{{','.join(sorted(blocks, key=int))}}}{tail}"
        for (head, tail), blocks in numbers.items()
    ]


def _fit_one(path, array, shape, patches):
    """What was changed in words, or None, and the array, None for the initial one.

    Raises:
      ValueError: no change makes it fit.
    """
    if array.shape == shape:
        return None, array
    if path.startswith(CLASSIFIER) and array.shape[:-1] == shape[:-1]:
        return f"new classifier: {array.shape[-1]} classes to {shape[-1]}", None
    if array.ndim != len(shape) or array.shape[-1] != shape[-1]:
        raise ValueError
    if path.endswith("/bias_table"):
        sides = [f"{(h + 1) // 2}x{(w + 1) // 2}" for h, w, _ in (array.shape, shape)]
        return f"bias tables resized: {' to '.join(sides)}", resize_table(array, shape)
    if path.endswith("/position_embedding") and patches:
        resized = resize_positions(array, patches)
        note = f"positions resized: {len(array) - 1:,} to {len(resized) - 1:,} patches"
        return note, resized
    if path in STEMS:
        adapted = adapt_rgb(array, shape)
        ratio = math.prod(shape) * 3 // array.size
        return f"first kernel adapted: 3 channels to {ratio}", adapted
    raise ValueError


def resize_table(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A bias table at another resolution, bilinear over offsets.

    Args:
      table: `[2h - 1, 2w - 1, N]`.
      shape: `(2H - 1, 2W - 1, N)`.
    """
    return np.asarray(jax.image.resize(table, shape, "bilinear"))


def resize_positions(positions: np.ndarray, patches: tuple[int, int]) -> np.ndarray:
    """A ViT's positions at another resolution, bicubic; the class token's stays.

    Args:
      positions: `[1 + h * h, C]`.
      patches: `(H, W)`.

    Returns:
      `[1 + H * W, C]`.

    Raises:
      ValueError: positions of no square.
    """
    token, grid = positions[:1], positions[1:]
    side = math.isqrt(len(grid))
    grid = grid.reshape(side, side, -1)
    if grid.shape[-1] != token.shape[-1]:
        raise ValueError(f"{len(positions) - 1} positions are no square")
    grid = jax.image.resize(grid, (*patches, grid.shape[-1]), "bicubic")
    return np.concatenate([token, np.asarray(grid).reshape(-1, grid.shape[-1])])


def adapt_rgb(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A first kernel of RGB images for images of other channels, as timm adapts it.

    One channel takes the sum over red, green and blue, which is the response to a gray
    image; more take them in turn, scaled to the same response.

    Args:
      kernel: `[..., 3, F]`, or `[taps * 3, F]`.
      shape: the same with another number of channels.

    Raises:
      ValueError: it is no kernel of three channels, or another one.
    """
    features = kernel.shape[-1]
    rgb = kernel.reshape(-1, 3, features)
    channels, rest = divmod(math.prod(shape[:-1]), len(rgb))
    if rest or not channels or (len(shape) == 4 and kernel.shape[:2] != shape[:2]):
        raise ValueError(f"{kernel.shape} cannot be adapted to {shape}")
    if channels == 1:
        adapted = rgb.sum(1, keepdims=True)
    else:
        adapted = rgb[:, np.arange(channels) % 3] * (3 / channels)
    return adapted.reshape(shape)
