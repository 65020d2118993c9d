"""Data sets that are passed as arrays."""

import collections
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import subsets
from hybrid_jax.data.dataset import SPLITS, Split, Splits
from hybrid_jax.data.image_io import convert_array
from hybrid_jax.data.pixel_format import ImageInfo, PixelFormat
from hybrid_jax.data.sources.image_checks import check_images
from hybrid_jax.data.sources.label_checks import (
    check_classes,
    check_groups,
    check_labels,
    encode_classes,
)
from hybrid_jax.data.split_notes import left_out_note, notes_on
from hybrid_jax.data.splitting import make_splits, used_splits
from hybrid_jax.errors import UserError, closest, plural, shape_text


class ArraySplit(NamedTuple):
    """One split as passed: images, labels, and groups if there are any."""

    images: Any  # uint8 [N, h, w, C], an array or what is indexed like one
    labels: np.ndarray  # of any values [N]
    groups: np.ndarray | None


def from_arrays(splits: "Splits | Mapping[str, Any]", config: DataConfig) -> Splits:
    """Create a data set from arrays.

    Args:
      splits: a mapping from `train` and maybe `validation` and `test` to a `Split`, to
        `(images, labels)`, or to `(images, labels, groups)`. Images are uint8
        `[N, h, w]` or `[N, h, w, C]` of 1 or 3 channels. Labels are numbers or names;
        the classes are the sorted labels of all splits. A `Splits` is returned as it
        is. All images stay in memory, whatever `config.loader` says.
      config: `validation`, `fraction`, `per_class`, `split_seed`, `image_size`, `fit`
        and `background` have the same meaning as for files, and select the same
        images for the same labels.

    Raises:
      UserError: the splits, their images, their labels or their groups are not valid.
    """
    if isinstance(splits, Splits):
        return splits
    if config.group:
        raise UserError(
            f"config.data.group={config.group!r} is for the paths of files: give "
            "arrays as (images, labels, groups)"
        )
    arrays = {name: _check_split(name, splits[name]) for name in _names(splits)}
    sizes = {name: len(split.labels) for name, split in arrays.items()}
    notes: tuple[str, ...] = ()
    used = used_splits(sizes, config)
    unused = {name: count for name, count in sizes.items() if name not in used}
    for name, count in unused.items():
        notes += (left_out_note(count),)
        del arrays[name]
    _check_shapes(arrays)
    classes, labels = encode_classes(
        {name: split.labels for name, split in arrays.items()}
    )
    check_classes(classes, labels)
    if found := subsets.shared_groups(
        {name: split.groups for name, split in arrays.items()}
    ):
        raise UserError(subsets.shared_groups_error(found))
    parts, more = make_splits(labels, classes, config, arrays["train"].groups, unused)
    form = _pixel_format(arrays["train"].images, config)
    parts_made = {}
    for name, (source, rows) in parts.items():
        images = arrays[source].images
        images = images if len(rows) == len(images) else _rows(images, rows)
        images, extents = to_pixel_format(images, form)
        groups = arrays[source].groups
        groups = None if groups is None else groups[rows]
        parts_made[name] = Split(
            images, labels[source][rows], extents, groups, classes=classes
        )
    fingerprint = _digest([split.images for split in arrays.values()])
    more += notes_on(
        {name: split.labels for name, split in parts_made.items()}, classes, config
    )
    return Splits("arrays", parts_made, classes, form, notes + more, fingerprint)


def to_pixel_format(
    images: np.ndarray, form: PixelFormat
) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert images of one size to the pixel format of a data set.

    Args:
      images: uint8 `[N, h, w, C]`.
      form: pixel format of the result.

    Returns:
      Images uint8 `[N, H, W, C]`, and extents int32 `[N, 2]`: height and width that
      each image fills, None if all do. Images already in the format are not copied.
    """
    from hybrid_jax.data.lazy_images import parallel_map
    from hybrid_jax.data.pixel_format import stored_extents

    size = images.shape[1:3]
    if form.target is None and images.shape[1:] == (*form.size, form.channels):
        return images, None
    extent = None
    if form.target is not None:
        (extent,) = stored_extents(np.array([size]), form.target, form.fit)
    converted = np.empty((len(images), *form.size, form.channels), np.uint8)

    def fill(rows: slice) -> None:
        for row in range(len(images))[rows]:
            converted[row] = convert_array(images[row], form, extent)

    collections.deque(parallel_map(fill, len(images)), 0)
    return converted, None if extent is None else np.tile(extent, (len(images), 1))


def _names(splits: Any) -> list[str]:
    """Return the names of the splits, in their order."""
    if not isinstance(splits, Mapping):
        raise UserError(
            f"splits are {type(splits).__name__}: give a mapping such as "
            '{"train": (images, labels), "test": (images, labels)}'
        )
    for name in splits:
        if name not in SPLITS:
            raise UserError(
                f"splits have {name!r}, which is none of {', '.join(SPLITS)}"
                f"{split_suggestion(name)}"
            )
    if "train" not in splits:
        names_found = ", ".join(splits) or "nothing"
        raise UserError(
            f"splits have {names_found}, and no 'train' to learn from: add it"
        )
    return [name for name in SPLITS if name in splits]


def split_suggestion(name: Any) -> str:
    """Return `", did you mean 'test'?"` for another name of a split, or nothing."""
    plain = str(name).casefold()
    matching = (role for role, names in SPLITS.items() if plain in names)
    return closest(next(matching, plain), SPLITS)


def _check_split(name: str, value: Any) -> ArraySplit:
    if isinstance(value, Split):
        if value.extents is not None:
            raise UserError(
                f"{name}: its images are of several shapes: pass the whole data set "
                "that the split belongs to"
            )
        images, labels, groups = value.images, value.labels, value.groups
        images = check_images(images, name) if value.resident else images
    else:
        if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
            raise UserError(
                f"{name}: it is {type(value).__name__}"
                + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
                + ", and (images, labels) or (images, labels, groups) is needed"
            )
        images, labels, groups = (*value, None)[:3]
        images = check_images(images, name)
    labels = check_labels(labels, name)
    groups = None if groups is None else check_groups(groups, name)
    for what, values in (("labels", labels), ("groups", groups)):
        if values is not None and len(values) != len(images):
            raise UserError(
                f"{name}: {plural(len(images), 'image')} and {len(values):,} {what}: "
                f"give as many {what} as images"
            )
    return ArraySplit(images, labels, groups)


def _check_shapes(arrays: dict[str, ArraySplit]) -> None:
    shapes = {name: tuple(split.images.shape[1:]) for name, split in arrays.items()}
    for name, shape in shapes.items():
        if shape != shapes["train"]:
            raise UserError(
                f"{name}: images are {shape_text(shape)}, and those of train are "
                f"{shape_text(shapes['train'])}: bring them to one size"
            )


def _pixel_format(images: Any, config: DataConfig) -> PixelFormat:
    """Choose the pixel format of images of one size."""
    from hybrid_jax.data.pixel_format import choose_pixel_format

    if not isinstance(images, np.ndarray):  # lazy images have a pixel format
        return images.form
    _, height, width, channels = images.shape
    infos = [ImageInfo(int(height), int(width), gray=channels == 1)]
    return choose_pixel_format(
        infos, config.image_size, config.fit, config.background, "arrays"
    )


def _rows(images: Any, rows: np.ndarray) -> Any:
    return images[rows] if isinstance(images, np.ndarray) else images.take(rows)


def _digest(arrays: Sequence[Any]) -> str:
    """Hash the pixels of arrays; lazy images do not count."""
    digest = hashlib.sha256()
    for images in arrays:
        if isinstance(images, np.ndarray):
            for block in np.array_split(images, max(1, images.size >> 26)):
                digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
