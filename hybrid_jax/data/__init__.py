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
from hybrid_jax.data.splitting import make_splits, notes_on
from hybrid_jax.errors import plural
from hybrid_jax.paths import expand_user

if typing.TYPE_CHECKING:
    from hybrid_jax.data.lazy_images import LazyImages

__all__ = ["Split", "Splits", "from_arrays", "load"]


class Source(typing.Protocol):
    """Define the interface of a source of images: splits, pixels and labels.

    Attributes:
      splits: those that are used, of `train`, `validation` and `test`.
      unused: how many images each other one has.
      classes: names, in the order of the labels.
      form: pixel format of the images.
      fingerprint: hash of the user's own files; empty for published sets.
      notes: what was skipped or left out, for the user to read.
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
    """Load a data set of this project, of TFDS or of the user, preparing it if need be.

    Sizes and labels are known at once; pixels are decoded when they are asked for.

    Args:
      config: its `name` is one of this project's builders, any TFDS image
        classification set, or `folder` for the images at `path`.

    Raises:
      UserError: the set does not exist, or cannot be prepared here; says what to do.
    """
    from hybrid_jax.data.memory_budget import is_resident

    source = open_source(config)
    labels = {split: source.labels(split) for split in source.splits}
    groups = source.groups("train")
    parts, notes = make_splits(labels, source.classes, config, groups, source.unused)
    encoded = {split: source.images(split) for split in source.splits}
    used = {name: encoded[split].take(rows) for name, (split, rows) in parts.items()}
    resident = is_resident(config.loader, used.values())
    decoded = functools.cache(source.decoded)  # two parts may lie in one split

    def part(name: str) -> Split:
        split, rows = parts[name]
        images, part_labels = used[name], labels[split][rows]
        is_complete = len(rows) == len(encoded[split])

        def decode() -> np.ndarray:
            pixels = decoded(split)
            return pixels if is_complete else pixels[rows]

        if resident:
            return LazySplit(images.shape, decode, part_labels, images.extents)
        return Split(images, part_labels, images.extents)

    if cropped := sum(images.cropped_count for images in used.values()):
        verb = "is" if cropped == 1 else "are"
        notes += (
            f"{plural(cropped, 'image')} {verb} more than twice as long as "
            "config.data.image_size is for its width: their ends are left out, which "
            "config.data.fit=pad keeps",
        )
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
      UserError: like `load`.
    """
    # TFDS takes half a second to import.
    if config.name == "folder":
        from hybrid_jax.data.sources.folder import FolderSource

        return FolderSource(config)
    from hybrid_jax.data.sources.tfds import TfdsSource

    return TfdsSource(config)


def is_at_hand(config: DataConfig) -> bool:
    """Return whether a data set can be opened without downloading or preparing it.

    Raises:
      UserError: there is no such set.
    """
    if config.name == "folder":
        return bool(config.path) and expand_user(config.path).exists()
    from hybrid_jax.data.sources.tfds import is_prepared

    return is_prepared(config.name, config.dir)
