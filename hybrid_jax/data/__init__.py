"""Data sets by name or as arrays: splits of uint8 images.

splits = load(DataConfig("digits"))
splits["train"].images.shape    # (1293, 8, 8, 1)
splits = load(DataConfig("folder", path="cells", image_size=(64, 64)))
splits = from_arrays({"train": (images, labels)}, DataConfig("arrays"))
"""

import functools
import typing

import numpy as np

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.dataset import LazySplit, Split, Splits
from hybrid_jax.data.pixel_format import PixelFormat
from hybrid_jax.data.sources.arrays import from_arrays
from hybrid_jax.data.split_notes import cropped_notes, notes_on
from hybrid_jax.data.splitting import make_splits
from hybrid_jax.paths import expand_user

if typing.TYPE_CHECKING:
    from hybrid_jax.data.lazy_images import LazyImages

__all__ = ["Split", "Splits", "from_arrays", "load", "load_source"]


class Source(typing.Protocol):
    """Interface of a source of images: splits, pixels and labels.

    Attributes:
      splits: names of the splits in use, of `train`, `validation` and `test`.
      unused: number of images of each split that is not in use.
      classes: class names, in the order of the labels.
      form: pixel format of the images.
      fingerprint: hash of the user's own files; empty for published sets.
      notes: messages for the user on what was skipped or left out.
    """

    splits: tuple[str, ...]
    unused: dict[str, int]
    classes: tuple[str, ...]
    form: PixelFormat
    notes: tuple[str, ...]

    @property
    def fingerprint(self) -> str: ...

    def images(self, split: str) -> "LazyImages": ...

    def decoded(self, split: str) -> np.ndarray: ...

    def labels(self, split: str) -> np.ndarray: ...

    def groups(self, split: str) -> np.ndarray | None: ...


def load(config: DataConfig) -> Splits:
    """Load a data set of this project, of TFDS or of the user; prepare it if needed.

    Sizes and labels are read at once; pixels are decoded when they are used.

    Args:
      config: data set configuration. Its `name` is one of this project's builders, any
        TFDS image classification set, or `folder` for the images at `path`.

    Raises:
      UserError: the data set does not exist, cannot be prepared here, or cannot be
        split as `config` asks.
    """
    return load_source(open_source(config), config)


def load_source(source: Source, config: DataConfig) -> Splits:
    """Split the images of a source; pixels are decoded when they are used.

    Raises:
      UserError: the images cannot be split as `config` asks, there is one class only,
        or a class has no training image.
    """
    from hybrid_jax.data.exclusions import exclude_rows
    from hybrid_jax.data.memory_budget import is_resident
    from hybrid_jax.data.sources.label_checks import check_classes

    labels = {split: source.labels(split) for split in source.splits}
    groups = {split: source.groups(split) for split in source.splits}
    rows, _ = exclude_rows(labels, source.classes, config, source.unused)
    check_classes(source.classes, {name: labels[name][rows[name]] for name in rows})
    parts, notes = make_splits(
        labels, source.classes, config, groups["train"], source.unused
    )
    encoded = {split: source.images(split) for split in source.splits}
    used = {name: encoded[split].take(rows) for name, (split, rows) in parts.items()}
    resident = is_resident(config.loader, used.values())
    decoded = functools.cache(source.decoded)  # two parts may lie in one split

    def part(name: str) -> Split:
        split, rows = parts[name]
        images, part_labels = used[name], labels[split][rows]
        split_groups = groups[split]
        part_groups = None if split_groups is None else split_groups[rows]
        fields = part_labels, images.extents, part_groups
        is_complete = len(rows) == len(encoded[split])

        def decode() -> np.ndarray:
            pixels = decoded(split)
            return pixels if is_complete else pixels[rows]

        if resident:
            return LazySplit(images.shape, decode, *fields, images, source.classes)
        return Split(images, *fields, classes=source.classes)

    notes += cropped_notes(sum(images.cropped_count for images in used.values()))
    splits = {name: part(name) for name in parts}
    notes += notes_on(
        {name: part_labels.labels for name, part_labels in splits.items()},
        source.classes,
        config,
    )
    return Splits(
        config.name,
        splits,
        source.classes,
        source.form,
        source.notes + notes,
        source.fingerprint,
    )


def open_source(config: DataConfig) -> Source:
    """Open the source of a data set's images.

    Raises:
      UserError: the data set does not exist, or cannot be prepared here.
    """
    # Import on use: TFDS takes half a second.
    if config.name == "folder":
        from hybrid_jax.data.sources.folder import FolderSource

        return FolderSource(config)
    from hybrid_jax.data.sources.tfds import TfdsSource

    return TfdsSource(config)


def is_at_hand(config: DataConfig) -> bool:
    """Return whether a data set can be opened without downloading or preparing it.

    Raises:
      UserError: the data set does not exist.
    """
    if config.name == "folder":
        return bool(config.path) and expand_user(config.path).exists()
    from hybrid_jax.data.sources.tfds_builder import is_prepared

    return is_prepared(config.name, config.dir)
