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
from hybrid_jax.data.dataset import Split, Splits, Undecoded
from hybrid_jax.data.image_io import Form
from hybrid_jax.data.sources.arrays import from_arrays
from hybrid_jax.data.splitting import divide, notes_on
from hybrid_jax.errors import counted

if typing.TYPE_CHECKING:
    from hybrid_jax.data.lazy_images import Encoded

__all__ = ["Split", "Splits", "from_arrays", "load"]


class Source(typing.Protocol):
    """The place that a data set comes from.

    Attributes:
      splits: those that are used, of `train`, `validation` and `test`.
      unused: how many images each other one has.
      classes: names, in the order of the labels.
      form: what images are decoded to.
      fingerprint: of the user's own files; empty for published sets.
      notes: what was skipped or left out, for the user to read.
    """

    splits: tuple[str, ...]
    unused: dict[str, int]
    classes: tuple[str, ...]
    form: Form
    fingerprint: str
    notes: tuple[str, ...]

    def images(self, split: str) -> "Encoded": ...

    def decoded(self, split: str) -> np.ndarray: ...

    def labels(self, split: str) -> np.ndarray: ...

    def groups(self, split: str) -> np.ndarray | None: ...


def load(config: DataConfig) -> Splits:
    """A data set of this project, of TFDS or of the user, prepared if need be.

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
    parts, notes = divide(labels, source.classes, config, groups, source.unused)
    encoded = {split: source.images(split) for split in source.splits}
    used = {name: encoded[split].take(rows) for name, (split, rows) in parts.items()}
    resident = is_resident(config.loader, used.values())
    decoded = functools.cache(source.decoded)  # two parts may lie in one split

    def part(name: str) -> Split:
        split, rows = parts[name]
        images, of = used[name], labels[split][rows]
        whole = len(rows) == len(encoded[split])

        def decode() -> np.ndarray:
            pixels = decoded(split)
            return pixels if whole else pixels[rows]

        if resident:
            return Undecoded(images.shape, decode, of, images.extents)
        return Split(images, of, images.extents)

    if cut := sum(images.cut for images in used.values()):
        notes += (
            f"{counted(cut, 'image')} {'is' if cut == 1 else 'are'} more than twice as "
            "long as config.data.image_size is for its width: their ends are left out, "
            "which config.data.fit=pad keeps",
        )
    splits = {name: part(name) for name in parts}
    notes += notes_on({name: of.labels for name, of in splits.items()}, source.classes)
    return Splits(
        config.name,
        splits,
        source.classes,
        source.form,
        source.notes + notes,
        source.fingerprint,
    )


def open_source(options: DataConfig) -> Source:
    """The place that the images of a data set come from.

    Raises:
      UserError: of `load`.
    """
    # TFDS takes half a second to import.
    if options.name == "folder":
        from hybrid_jax.data.sources.folder import OwnImages

        return OwnImages(options)
    from hybrid_jax.data.sources.tfds import Prepared

    return Prepared(options)
