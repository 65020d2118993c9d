"""Weights of one network in another: other classes, resolution or channels."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from hybrid_jax.errors import short
from hybrid_jax.models.vit import ViT
from hybrid_jax.weights.timm_models import Arrays, Model
from hybrid_jax.weights.timm_names import Leaf

CLASSIFIER = "params/head/classifier/"
POSITIONS = "params/position_embedding"
# What first sees the image, and how its kernel shows the image's channels.
STEMS = ("params/stem/conv1/kernel", "params/patch_embedding/kernel")


class Source(NamedTuple):
    """Where arrays are from.

    Attributes:
      patches: rows and columns of a ViT's patches; None is a square, as in timm.
      leaves: how others name and lay out the arrays, for messages.
      classes: names in the order of the logits; None is unknown.
    """

    patches: tuple[int, int] | None = None
    leaves: dict[str, Leaf] | None = None
    classes: tuple[str, ...] | None = None

    def name(self, path: str) -> str:
        """What the source calls an array."""
        return self.leaves[path].key if self.leaves else path

    def shown_shape(self, path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape as the source would have it."""
        try:
            zeros = np.broadcast_to(np.float32(0), shape)
            return self.leaves[path].layout.out(zeros).shape if self.leaves else shape
        except (ValueError, IndexError):
            return shape  # of another kind, and never laid out anew


UNKNOWN = Source()


class Fitted(NamedTuple):
    """Attributes:
    arrays: what was taken over, by path; the rest keeps its initial value.
    notes: what had to be changed, in words.
    """

    arrays: Arrays
    notes: list[str]


def fit(
    model: Model,
    arrays: Arrays,
    shapes: dict[str, tuple[int, ...]],
    source: Source = UNKNOWN,
    classes: Sequence[str] | None = None,
) -> Fitted:
    """Weights as a network needs them.

    A classifier of other classes is left out, one of the same classes in another order
    is reordered. Bias tables and position embeddings are resized, and kernels of RGB
    images are adapted to other channels.

    Args:
      model: the network.
      arrays: weights by path, of this network at any resolution.
      shapes: what the network expects, by path.
      source: what is known of where the arrays are from.
      classes: names in the order of the network's logits; None compares no names.

    Raises:
      ValueError: lists every missing, surplus and misshapen array.
    """
    fitted, notes, misshapen = {}, [], []
    for path in [path for path in shapes if path in arrays]:
        array, shape = arrays[path], shapes[path]
        try:
            if path.startswith(CLASSIFIER) and array.shape[:-1] == shape[:-1]:
                note, fitted[path] = _fit_classifier(array, shape, source, classes)
            else:
                note, fitted[path] = _fit_one(model, path, array, shape, source)
            notes += [note] if note and note not in notes else []
        except ValueError:
            given, needed = (source.shown_shape(path, s) for s in (array.shape, shape))
            misshapen.append(f"{source.name(path)} {given} instead of {needed}")
    _refuse(
        missing=[source.name(path) for path in shapes if path not in arrays],
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


def _fit_one(model, path, array, shape, source):
    """What was changed in words, or None, and the array, None for the initial one.

    Raises:
      ValueError: no change makes it fit.
    """
    vit = isinstance(model, ViT)
    if path == POSITIONS and vit and array.shape[1:] == shape[1:]:
        old, new = source.patches or _square(len(array) - 1), model.map_sizes[-1]
        if old != new:
            note = f"positions resized: {_by(old)} to {_by(new)} patches"
            return note, resize_positions(array, old, new)
    if array.shape == shape:
        return None, array
    if array.ndim != len(shape) or array.shape[-1] != shape[-1]:
        raise ValueError
    if path.endswith("/bias_table"):
        old, new = (_by((h + 1) // 2 for h in s[:2]) for s in (array.shape, shape))
        return f"bias tables resized: {old} to {new}", resize_table(array, shape)
    if path in STEMS:
        taps = model.patch_size**2 if vit else 9
        adapted = adapt_rgb(array, shape, taps)
        channels = math.prod(shape[:-1]) // taps
        return f"first kernel adapted: 3 channels to {channels}", adapted
    raise ValueError


def _fit_classifier(array, shape, source, classes):
    """What was changed in words, or None, and the array, None for the initial one."""
    theirs, ours = source.classes, classes and tuple(classes)
    if array.shape != shape:
        return f"new classifier: {array.shape[-1]} classes to {shape[-1]}", None
    if ours is None or theirs == ours:
        return None, array
    if theirs is None:
        note = f"class names unknown: its classifier of {len(ours)} classes is kept"
        return note, array
    if sorted(theirs) == sorted(ours) and len({*ours}) == len(ours):
        note = "classifier reordered: the same classes were in another order"
        return note, array[..., [theirs.index(name) for name in ours]]
    new = [name for name in ours if name not in theirs] or ours
    return (
        f"new classifier: {len(new)} of the {len(ours)} classes are not the file's, "
        f"such as {short(new[0])!r}"
    ), None


def _square(count: int) -> tuple[int, int]:
    side = math.isqrt(count)
    if side * side != count:
        raise ValueError(f"{count} positions are no square")
    return side, side


def _by(sides: Iterable[int]) -> str:
    return "x".join(map(str, sides))


def resize_table(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A bias table at another resolution, bilinear over offsets.

    Args:
      table: `[2h - 1, 2w - 1, N]`.
      shape: `(2H - 1, 2W - 1, N)`.
    """
    return np.asarray(jax.image.resize(table, shape, "bilinear"))


def resize_positions(
    positions: np.ndarray, old: tuple[int, int], new: tuple[int, int]
) -> np.ndarray:
    """A ViT's positions at another resolution, bicubic; the class token's stays.

    Args:
      positions: `[1 + h * w, C]`.
      old, new: `(h, w)` and `(H, W)` patches.

    Returns:
      `[1 + H * W, C]`.
    """
    token, grid = positions[:1], positions[1:].reshape(*old, -1)
    grid = jax.image.resize(grid, (*new, grid.shape[-1]), "bicubic")
    return np.concatenate([token, np.asarray(grid).reshape(-1, grid.shape[-1])])


def adapt_rgb(kernel: np.ndarray, shape: tuple[int, ...], taps: int) -> np.ndarray:
    """A first kernel of RGB images for images of other channels, as timm adapts it.

    One channel takes the sum over red, green and blue, which is the response to a gray
    image; more take them in turn, scaled to the same response.

    Args:
      kernel: `[..., 3, F]`, or `[taps * 3, F]`.
      shape: the same with another number of channels.
      taps: positions that the kernel reaches.

    Raises:
      ValueError: it is no kernel of three channels, or of other taps.
    """
    rgb = kernel.reshape(taps, 3, kernel.shape[-1])
    channels, rest = divmod(math.prod(shape[:-1]), taps)
    if rest:
        raise ValueError(f"{kernel.shape} cannot be adapted to {shape}")
    if channels == 1:
        adapted = rgb.sum(1, keepdims=True)
    else:
        adapted = rgb[:, np.arange(channels) % 3] * (3 / channels)
    return adapted.reshape(shape)
