"""Adapt weights to other classes, another resolution, or other channels."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from hybrid_jax.errors import elide, plural
from hybrid_jax.models.strides import format_size
from hybrid_jax.models.vit import ViT
from hybrid_jax.weights.bias_tables import fold_to_torus, resize_table, unfold_torus
from hybrid_jax.weights.timm_models import Arrays, Model
from hybrid_jax.weights.timm_names import Leaf

CLASSIFIER = "params/head/classifier/"
POSITIONS = "params/position_embedding"
# Kernels of the layers that see the image itself.
STEMS = ("params/stem/conv1/kernel", "params/patch_embedding/kernel")

Shape = tuple[int, ...]


class Source(NamedTuple):
    """Facts about the network that arrays come from.

    Attributes:
      patches: rows and columns of a ViT's patches; None is a square, as in timm, or
        those of the network where as many form no square.
      leaves: names and layouts of the arrays there, for messages.
      classes: class names in the order of the logits; None if unknown.
      on_torus: whether its tables of relative bias are over the offsets of a torus.
    """

    patches: tuple[int, int] | None = None
    leaves: dict[str, Leaf] | None = None
    classes: tuple[str, ...] | None = None
    on_torus: bool = False

    def name(self, path: str) -> str:
        """Return the source's name of an array."""
        return self.leaves[path].key if self.leaves else path

    def shape(self, path: str, shape: Shape) -> Shape:
        """Return a shape in the source's layout."""
        if not self.leaves:
            return shape
        try:
            zeros = np.broadcast_to(np.float32(0), shape)
            return self.leaves[path].layout.to_timm(zeros).shape
        except (ValueError, IndexError):
            return shape  # wrong dimensions, so it was never converted


UNKNOWN = Source()


class Adapted(NamedTuple):
    """Weights in the shapes of a network.

    Attributes:
      arrays: by path; a path that is missing keeps its initial value.
      notes: the changes that were needed, in words.
      changes: in words, every array that was changed or left out, by path.
    """

    arrays: Arrays
    notes: list[str]
    changes: dict[str, str]


def adapt_arrays(
    model: Model,
    arrays: Arrays,
    shapes: dict[str, Shape],
    source: Source = UNKNOWN,
    classes: Sequence[str] | None = None,
) -> Adapted:
    """Adapt arrays to the shapes of a network.

    A classifier of other classes is left out. One of the same classes in another order
    is reordered. Bias tables and position embeddings are resized, and kernels of RGB
    images are adapted to other channels.

    Args:
      model: the network.
      arrays: weights by path, of this network at any resolution.
      shapes: shapes of the network's variables, by path.
      source: facts about the network that the arrays come from.
      classes: class names in the order of the network's logits; None compares no names.

    Raises:
      ValueError: lists every missing, surplus and misshapen array.
    """
    adapted: dict[str, np.ndarray | None] = {}
    notes, misshapen, changes = [], [], {}
    for path in [path for path in shapes if path in arrays]:
        array, shape = arrays[path], shapes[path]
        given, needed = (source.shape(path, s) for s in (array.shape, shape))
        differs = f"{source.name(path)} {given} instead of {needed}"
        try:
            if path.startswith(CLASSIFIER) and array.shape[:-1] == shape[:-1]:
                note, adapted[path] = _adapt_classifier(array, shape, source, classes)
            else:
                note, adapted[path] = _adapt_array(model, path, array, shape, source)
            notes += [note] if note and note not in notes else []
            if note and array is not adapted[path]:
                told = f"{source.name(path)}: {note}" if given == needed else differs
                changes[path] = told
        except ValueError:
            misshapen.append(differs + _reason(path, array.shape, shape))
    wrong = {
        "missing": [source.name(path) for path in shapes if path not in arrays],
        "surplus": [path for path in arrays if path not in shapes],
        "misshapen": misshapen,
    }
    listed = [
        f"{len(names)} {what}: {', '.join(_group_blocks(names))}"
        for what, names in wrong.items()
        if names
    ]
    if listed:
        raise ValueError("; ".join(listed))
    kept = {path: array for path, array in adapted.items() if array is not None}
    return Adapted(kept, notes, changes)


def _reason(path: str, given: Shape, needed: Shape) -> str:
    """Return why a first kernel or a table of timm does not fit; empty for others."""
    if path.endswith("/bias_table") and len(given) == 2 < len(needed):
        return (
            f" ({plural(given[0], 'offset')} do not fit the image size in the file; "
            "if it names none, tables of square maps and of the network's can be used)"
        )
    alike = len(given) == len(needed) == 4 and given[:2] == needed[:2]
    if path not in STEMS or not alike or given[-1] != needed[-1]:
        return ""
    return (
        f" (made for images of {plural(given[2], 'channel')}, and {needed[2]} are "
        "needed: only those for RGB are adapted)"
    )


def _group_blocks(names: list[str]) -> list[str]:
    """Write the names of a stage's blocks as one: `blocks.{0,1,2}.norm1.bias`."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for name in names:
        found = re.fullmatch(r"(.*?blocks?\.?)(\d+)(.*)", name)
        before, number, behind = found.groups() if found else (name, "", "")
        numbers.setdefault((before, behind), []).append(number)
    return [
        before + blocks[0] + behind
        if len(blocks) == 1
        else f"{before}{{{','.join(sorted(blocks, key=int))}}}{behind}"
        for (before, behind), blocks in numbers.items()
    ]


def _adapt_array(
    model: Model, path: str, array: np.ndarray, shape: Shape, source: Source
) -> tuple[str | None, np.ndarray]:
    """Return a note on the change, or None, and the array.

    Raises:
      ValueError: no change makes it fit.
    """
    vit = isinstance(model, ViT)
    if path == POSITIONS and vit and array.shape[1:] == shape[1:]:
        new = model.map_sizes[-1]
        old = source.patches or _guess_patches(len(array) - 1, new)
        if old != new:
            note = (
                f"positions resized: {format_size(old)} to {format_size(new)} patches"
            )
            return note, resize_positions(array, old, new)
    if path.endswith("/bias_table"):
        return _adapt_table(model, array, shape, source.on_torus)
    if array.shape == shape:
        return None, array
    if array.ndim != len(shape) or array.shape[-1] != shape[-1]:
        raise ValueError("another number of dimensions or features")
    if path in STEMS:
        taps = model.patch_size**2 if isinstance(model, ViT) else 9
        adapted = adapt_rgb(array, shape, taps)
        channels = math.prod(shape[:-1]) // taps
        return f"first kernel adapted: 3 channels to {channels}", adapted
    raise ValueError("another shape")


def _adapt_classifier(
    array: np.ndarray, shape: Shape, source: Source, classes: Sequence[str] | None
) -> tuple[str | None, np.ndarray | None]:
    """Return a note on the change, or None, and the array; None to initialize it."""
    theirs, ours = source.classes, None if classes is None else tuple(classes)
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
        f"new classifier: {len(new)} of the {len(ours)} classes are not in the file, "
        f"such as {elide(new[0])!r}"
    ), None


def _guess_patches(count: int, needed: tuple[int, int]) -> tuple[int, int]:
    """Return the square of `count` patches, or the needed grid if it has as many.

    Raises:
      ValueError: it has not, and there is no square.
    """
    side = math.isqrt(count)
    if side * side == count:
        return side, side
    if math.prod(needed) == count:
        return needed
    raise ValueError(f"{count} positions are not a square")


def _adapt_table(
    model: Model, table: np.ndarray, shape: Shape, from_torus: bool
) -> tuple[str | None, np.ndarray]:
    """Return a note on the change, or None, and the table of relative bias."""
    on_torus = model.block_config.relative_bias == "torus"
    if table.shape == shape and from_torus == on_torus:
        return None, table
    if table.ndim != 3 or table.shape[-1] != shape[-1]:
        raise ValueError("another number of dimensions or heads")
    table = unfold_torus(table) if from_torus else table
    height, width = shape[:2] if on_torus else [(n + 1) // 2 for n in shape[:2]]
    old, notes = [(n + 1) // 2 for n in table.shape[:2]], []
    if old != [height, width]:
        notes.append(
            f"bias tables resized: {format_size(old)} to {format_size((height, width))}"
        )
        table = resize_table(table, (2 * height - 1, 2 * width - 1, shape[-1]))
    if from_torus and not on_torus:
        notes.append("bias tables unfolded from a torus, exactly")
    if not on_torus:
        return "; ".join(notes) or None, table
    folded = fold_to_torus(table)
    if not from_torus and not np.array_equal(unfold_torus(folded), table):
        notes.append("bias tables folded to a torus: offsets that meet are averaged")
    return "; ".join(notes) or None, folded


def resize_positions(
    positions: np.ndarray, old: tuple[int, int], new: tuple[int, int]
) -> np.ndarray:
    """Resize a ViT's positions, bicubically; the class token's position stays.

    Args:
      positions: `[1 + h * w, C]`.
      old, new: `(h, w)` and `(H, W)` patches.

    Returns:
      `[1 + H * W, C]`.
    """
    token, grid = positions[:1], positions[1:].reshape(*old, -1)
    grid = jax.image.resize(grid, (*new, grid.shape[-1]), "bicubic")
    return np.concatenate([token, np.asarray(grid).reshape(-1, grid.shape[-1])])


def adapt_rgb(kernel: np.ndarray, shape: Shape, taps: int) -> np.ndarray:
    """Adapt a first kernel of RGB images to images of other channels, as timm does.

    One channel takes the sum over red, green and blue, which is the response to a gray
    image; more channels repeat the three in order, scaled to the same response.

    Args:
      kernel: `[..., 3, F]`, or `[taps * 3, F]`.
      shape: shape of the result, with another number of channels.
      taps: number of positions of the kernel.

    Raises:
      ValueError: the kernel does not have three channels, or `taps` do not match.
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
