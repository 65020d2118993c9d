"""A data set: a mapping from the names of splits to images and labels.

Shapes: `N` images of height `H`, width `W` and `C` channels.
"""

import functools
import hashlib
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hybrid_jax.data import channel_stats
from hybrid_jax.data.pixel_format import PixelFormat

if typing.TYPE_CHECKING:
    from hybrid_jax.data.lazy_images import LazyImages

# Each split, with the names of folders and table cells that mean it, in any case.
SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def images_of_split(name: str) -> str:
    """Return the words for the images of a split, such as `training images`."""
    return f"{'training' if name == 'train' else name} images"


@dataclass(frozen=True)
class Split:
    """Images uint8 `[N, H, W, C]`, as an array or `LazyImages`, and their labels.

    An array is `resident`: to train on it, it goes to the device whole. Lazy images are
    decoded and streamed batch by batch.
    """

    images: "np.ndarray | LazyImages"
    labels: np.ndarray  # int32 [N]
    # Height and width that each image fills, int32 [N, 2]; None if all do.
    extents: np.ndarray | None = None
    # Group of each image, such as a patient, [N]; None without groups.
    groups: np.ndarray | None = None
    # Encoded images of a resident split, which have names; None for arrays.
    encoded: "LazyImages | None" = None
    # Class names, in the order of the labels; empty if unknown.
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`[N, H, W, C]` of the images."""
        return self.images.shape

    @property
    def resident(self) -> bool:
        """Whether the images are an array, and not decoded batch by batch."""
        return isinstance(self.images, np.ndarray)

    @property
    def names(self) -> list[str]:
        """The names of the images' files or records; numbers where there are none."""
        if (stored := self.stored) is None:
            return [*map(str, range(len(self)))]
        return [stored.records.name(row) for row in stored.rows.tolist()]

    @property
    def stored(self) -> "LazyImages | None":
        """The images in their files or records; None where there are none."""
        return self.encoded if self.resident else self.images  # type: ignore[return-value]

    def image(self, row: int) -> np.ndarray:
        """Return an image uint8 `[h, w, C]`, without the rest of its array.

        Raises:
          UserError: the image cannot be read.
        """
        # Decode one image, not the whole of a lazy split.
        found = np.asarray((self.encoded or self.images)[row : row + 1])[0]
        if self.extents is not None:
            height, width = self.extents[row]
            found = found[:height, :width]
        return found

    @property
    def per_image_arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays that a step needs besides pixels: labels, and extents if any."""
        return (self.labels,) if self.extents is None else (self.labels, self.extents)


class LazySplit(Split):
    """A resident split whose images are decoded at their first use."""

    _shape: tuple[int, int, int, int]
    _decode: Callable[[], np.ndarray]

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        decode: Callable[[], np.ndarray],
        labels: np.ndarray,
        extents: np.ndarray | None = None,
        groups: np.ndarray | None = None,
        encoded: "LazyImages | None" = None,
        classes: tuple[str, ...] = (),
    ):
        vars(self).update(
            _shape=shape,
            _decode=decode,
            labels=labels,
            extents=extents,
            groups=groups,
            encoded=encoded,
            classes=classes,
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self._shape

    @property
    def resident(self) -> bool:
        return True

    @functools.cached_property
    def images(self) -> np.ndarray:
        return self._decode()


@dataclass(frozen=True, eq=False)
class Splits(Mapping):
    """A data set: a mapping from the names of its splits to the splits.

    The training split is always present; validation and test splits may be absent.

    Attributes:
      name: name of the data set.
      parts: the splits by name.
      classes: class names, in the order of the labels.
      form: pixel format of the images.
      notes: messages for the user on what was skipped, set aside or left out; those
        that only repeat the config in numbers are `split_notes.Expected`.
      fingerprint: hash of the user's own files; empty for published sets.
    """

    name: str
    parts: Mapping[str, Split]
    classes: tuple[str, ...]
    form: PixelFormat
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
        """The split that selects the best weights; None if absent."""
        return self.parts.get("validation")

    @property
    def test(self) -> Split | None:
        """The split for the final evaluation; None if absent."""
        return self.parts.get("test")

    @property
    def identity(self) -> dict[str, typing.Any]:
        """Values for JSON that identify the data without decoding them."""
        labels = b"".join(split.labels.tobytes() for split in self.values())
        return {
            **{images_of_split(name): len(split) for name, split in self.items()},
            "height, width and channels": [int(n) for n in self.train.shape[1:]],
            "classes": list(self.classes),
            "labels": hashlib.sha256(labels).hexdigest(),
            "files": self.fingerprint,
        }

    @property
    def summary(self) -> dict[str, typing.Any]:
        """Values for JSON that must not change before a run is resumed."""
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
        return channel_stats.channel_statistics(
            self.train.images, self.name, self.train.extents
        )

    @property
    def channels(self) -> int:
        return self.train.shape[-1]
