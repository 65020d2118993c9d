"""A data set in memory: a mapping from splits to images and labels.

Shapes: `N` images of height `H`, width `W` and `C` channels.
"""

import functools
import hashlib
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hybrid_jax.data import channel_stats
from hybrid_jax.data.image_io import Form

if typing.TYPE_CHECKING:
    from hybrid_jax.data.lazy_images import Encoded

SPLITS = ("train", "validation", "test")
COUNTED_AS = {
    "train": "training images",
    "validation": "validation images",
    "test": "test images",
}


@dataclass(frozen=True)
class Split:
    """Images uint8 `[N, H, W, C]`, an array or what is indexed like one, and labels.

    An array is `resident`: it goes to the device whole. `Encoded` images are decoded
    batch by batch, to be streamed.
    """

    images: "np.ndarray | Encoded"
    labels: np.ndarray  # int32 [N]
    # Height and width that each image fills, int32 [N, 2]; None where all fill all.
    extents: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`[N, H, W, C]` of the images."""
        return self.images.shape

    @property
    def resident(self) -> bool:
        return isinstance(self.images, np.ndarray)

    @property
    def beside_images(self) -> tuple[np.ndarray, ...]:
        """What a step needs of each image beside its pixels: label, maybe extent."""
        return (self.labels,) if self.extents is None else (self.labels, self.extents)


class Undecoded(Split):
    """A resident split whose images are decoded when they are first asked for."""

    resident = True

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        decode: Callable[[], np.ndarray],
        labels: np.ndarray,
        extents: np.ndarray | None = None,
    ):
        vars(self).update(_shape=shape, _decode=decode, labels=labels, extents=extents)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self._shape

    @functools.cached_property
    def images(self) -> np.ndarray:
        return self._decode()


@dataclass(frozen=True, eq=False)
class Splits(Mapping):
    """A data set: a mapping from `train`, `validation` and `test` to splits.

    It has a training split; either of the others may be absent.

    Attributes:
      name: of the data set.
      parts: the splits by name.
      classes: names, in the order of the labels.
      form: how the images were decoded, and others are to be.
      notes: for the user to read: what was skipped, set aside or left out.
      fingerprint: tells other files of the user's from these; empty for published sets.
    """

    name: str
    parts: Mapping[str, Split]
    classes: tuple[str, ...]
    form: Form
    notes: tuple[str, ...] = ()
    fingerprint: str = ""

    def __getitem__(self, name: str) -> Split:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in SPLITS if name in self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def train(self) -> Split:
        return self.parts["train"]

    @property
    def validation(self) -> Split | None:
        """The split that chooses; None where there is none."""
        return self.parts.get("validation")

    @property
    def test(self) -> Split | None:
        """The split that is tested on; None where there is none."""
        return self.parts.get("test")

    @property
    def identity(self) -> dict[str, typing.Any]:
        """What tells these data from others before they are decoded, fit for JSON."""
        labels = b"".join(split.labels.tobytes() for split in self.values())
        return {
            **{COUNTED_AS[name]: len(split) for name, split in self.items()},
            "height, width and channels": [int(n) for n in self.train.shape[1:]],
            "classes": list(self.classes),
            "labels": hashlib.sha256(labels).hexdigest(),
            "files": self.fingerprint,
        }

    @property
    def summary(self) -> dict[str, typing.Any]:
        """What a run must find again when it continues, fit for JSON."""
        mean, std = self.statistics
        return self.identity | {
            "mean and deviation": [float(x) for x in (*mean, *std)],
        }

    @property
    def image_size(self) -> tuple[int, int]:
        """`(height, width)` in pixels."""
        return self.train.shape[1:3]

    @functools.cached_property
    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel of the training images, 0-255."""
        return channel_stats.of_channels(
            self.train.images, self.name, self.train.extents
        )

    @property
    def channels(self) -> int:
        return self.train.shape[-1]
