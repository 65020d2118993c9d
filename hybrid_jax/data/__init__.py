"""Data sets by name, each as a training and a test split of uint8 images.

splits = load("digits")
splits.train.images.shape    # (1437, 8, 8, 1)
splits = load("folder", path="cells", image_size=(64, 64), fraction=0.1)
"""

import dataclasses
import functools
import hashlib
import typing
from collections.abc import Callable

import numpy as np

from hybrid_jax.data import statistics
from hybrid_jax.errors import counted

if typing.TYPE_CHECKING:
    from hybrid_jax.data.encoded import Encoded

__all__ = ["Options", "Split", "Splits", "load"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is loaded: the fields of `config.data`, which say what they mean."""

    name: str
    dir: str = ""
    manual_dir: str = ""
    path: str = ""
    label: str = "label"
    image_size: tuple[int, ...] = ()
    fit: str = "crop"
    background: str = "white"
    on_error: str = "stop"
    exclude: str = ""
    test_fraction: float = 0.2
    split_seed: int = 0
    fold: str = ""
    fraction: float = 1.0
    per_class: int = 0
    loader: str = "auto"
    workers: int = 0


@dataclasses.dataclass(frozen=True)
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


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set.

    Attributes:
      name: of it.
      train, test: its splits.
      classes: names, in the order of the labels.
      notes: for the user to read: what was skipped, set aside or left out.
      fingerprint: tells other files of the user's from these; empty for published sets.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def identity(self) -> dict[str, typing.Any]:
        """What tells these data from others before they are decoded, fit for JSON."""
        labels = self.train.labels.tobytes() + self.test.labels.tobytes()
        return {
            "training images": len(self.train),
            "test images": len(self.test),
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
        return statistics.of_channels(self.train.images, self.name, self.train.extents)

    @property
    def channels(self) -> int:
        return self.train.shape[-1]


class Source(typing.Protocol):
    """The place that a data set comes from; splits are `train` and `test`.

    Attributes:
      classes: names, in the order of the labels.
      fingerprint: of the user's own files; empty for published sets.
      notes: what was skipped or left out, for the user to read.
    """

    classes: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...]

    def images(self, split: str) -> "Encoded": ...

    def decoded(self, split: str) -> np.ndarray: ...

    def labels(self, split: str) -> np.ndarray: ...


def load(name: str, dir: str = "", **options) -> Splits:
    """A data set of this project, of TFDS or of the user, prepared if need be.

    Sizes and labels are known at once; pixels are decoded when they are asked for.

    Args:
      name: one of this project's builders, any TFDS image classification set, or
        `folder` for the images at `path`.
      dir: where data sets lie; empty is TFDS's default, `~/tensorflow_datasets`.
      options: the other fields of `Options`.

    Raises:
      UserError: the set does not exist, or cannot be prepared here; says what to do.
    """
    from hybrid_jax.data.memory import is_resident

    options = Options(name, dir, **options)
    source = open_source(options)
    parts, notes = divide(source.labels, options)
    encoded = {part: source.images(split) for part, (split, _) in parts.items()}
    used = {part: encoded[part].take(rows) for part, (_, rows) in parts.items()}
    resident = is_resident(options.loader, used.values())

    def part(name: str) -> Split:
        split, rows = parts[name]
        images, labels = used[name], source.labels(split)[rows]
        whole = len(rows) == len(encoded[name])

        def decode() -> np.ndarray:
            pixels = source.decoded(split)
            return pixels if whole else pixels[rows]

        if resident:
            return Undecoded(images.shape, decode, labels, images.extents)
        return Split(images, labels, images.extents)

    if cut := sum(images.cut for images in used.values()):
        notes += (
            f"{counted(cut, 'image')} {'is' if cut == 1 else 'are'} more than twice as "
            "long as config.data.image_size is for its width: their ends are left out, "
            "which config.data.fit=pad keeps",
        )
    return Splits(
        name,
        part("train"),
        part("test"),
        source.classes,
        source.notes + notes,
        source.fingerprint,
    )


def divide(
    labels_of: Callable[[str], np.ndarray], options: Options
) -> tuple[dict[str, tuple[str, np.ndarray]], tuple[str, ...]]:
    """Which images of a source each split has: `fold`, `fraction` and `per_class`.

    Args:
      labels_of: the source's labels int32 `[N]`, by its `train` or `test`.
      options: of the data set.

    Returns:
      The source's split and rows of it int64 `[n]`, for `train` and `test`; notes.

    Raises:
      UserError: a class has fewer images than there are folds.
    """
    from hybrid_jax.data import subsets

    left, notes = _left_in(labels_of, options)
    labels = labels_of("train")[left["train"]]
    parts = {split: (split, rows) for split, rows in left.items()}
    if options.fold:
        number, folds = map(int, options.fold.split("/"))
        train, test = subsets.fold(labels, number, folds, options.split_seed)
        parts = {
            "train": ("train", left["train"][train]),
            "test": ("train", left["train"][test]),
        }
        notes += (
            f"fold {number} of {folds} of the {len(labels):,} training images is the "
            "test split; the images that were held out for testing are left alone",
        )
    if options.fraction < 1 or options.per_class:
        split, rows = parts["train"]
        chosen = subsets.subset(
            labels_of("train")[rows],
            options.fraction,
            options.per_class,
            options.split_seed,
        )
        parts["train"] = (split, rows[chosen])
        notes += (f"{len(chosen):,} of {len(rows):,} training images are used",)
    return parts, notes


def _left_in(
    labels_of: Callable[[str], np.ndarray], options: Options
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Rows of each split that `config.data.exclude` does not list, and notes.

    A user's own images are left out where they are listed, by `listing`.

    Raises:
      UserError: the list cannot be read, or names images that are not there.
    """
    from hybrid_jax.data.exclusions import Exclusions

    rows = {split: np.arange(len(labels_of(split))) for split in ("train", "test")}
    if options.name == "folder" or not options.exclude:
        return rows, ()
    exclusions = Exclusions(options.exclude)
    rows = {
        split: np.array(
            [row for row in of_split if not exclusions.hold(f"{split}/{row}")], int
        )
        for split, of_split in rows.items()
    }
    return rows, exclusions.notes()


def open_source(options: Options) -> Source:
    """The place that the images of a data set come from.

    Raises:
      UserError: of `load`.
    """
    # TFDS takes half a second to import.
    if options.name == "folder":
        from hybrid_jax.data.own import OwnImages

        return OwnImages(options)
    from hybrid_jax.data.prepared import Prepared

    return Prepared(options)
