"""Source of TFDS data sets in ArrayRecord files, without TensorFlow.

Records may have been prepared by another program; this project's builders prepare their
own.
"""

import contextlib
import hashlib
import typing
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.decode_cache import (
    READER_VERSION,
    decoded,
    read_cache,
    write_cache,
)
from hybrid_jax.data.lazy_images import LazyImages, scan_images
from hybrid_jax.data.pixel_format import (
    ImageInfo,
    PixelFormat,
    choose_pixel_format,
    depth_notes,
)
from hybrid_jax.data.sources.tfds_builder import open_builder
from hybrid_jax.data.sources.tfds_records import (
    TfdsRecords,
    check_counts,
    told_if_damaged,
)
from hybrid_jax.data.split_notes import left_out_note
from hybrid_jax.data.splitting import used_splits
from hybrid_jax.errors import UserError, closest, escape, plural
from hybrid_jax.paths import user_path

if typing.TYPE_CHECKING:
    from hybrid_jax.config.schema import DataConfig

BLOCK = 2048


class TfdsSource:
    """Source of a data set that TFDS has prepared, or prepares now; a `data.Source`."""

    def __init__(self, config: "DataConfig"):
        """Open the data set and choose its pixel format.

        Raises:
          UserError: the data set does not exist, is not available, or has no labeled
            images.
        """
        self.fingerprint = ""
        self.builder = open_builder(config.name, config.dir, config.manual_dir)
        self.label, self._config = config.label, config
        self.classes = class_names(self.builder, config.label)
        given = split_sizes(self.builder)
        self.splits = used_splits(given, config)
        check_counts(self.builder, self.splits)
        self.unused = {n: size for n, size in given.items() if n not in self.splits}
        self.notes = (
            *_name_notes(self.builder, config.label),
            *_other_splits(self.builder, given),
            *map(left_out_note, self.unused.values()),
        )
        self.form = self._choose_form()

    def images(self, split: str) -> LazyImages:
        """Return the encoded images of a split."""
        records = self._records(split)
        rows = np.arange(len(records))
        return LazyImages(records, self.form, rows, self._sizes[split])

    def decoded(self, split: str) -> np.ndarray:
        """Return all pixels of a split, uint8 `[N, H, W, C]`."""
        place = user_path(self.builder.data_path)
        state = f"{self.form.cache_key} {self._records_state(split)}"
        key = hashlib.sha256(state.encode()).hexdigest()[:8]
        return decoded(self.images(split), place, split, key, self._title(split))

    def labels(self, split: str) -> np.ndarray:
        """Return labels int32 `[N]`, in the order of the images."""
        state = hashlib.sha256(self._records_state(split).encode()).hexdigest()[:8]
        path = user_path(self.builder.data_path) / f"{self.label}-{split}-{state}.npy"
        source = self._records(split).source
        with contextlib.suppress(OSError, ValueError, EOFError):
            labels = np.load(path, allow_pickle=False)
            if len(labels) == len(source):  # else writing was interrupted
                return self._checked(labels, split)
        labels = np.empty(len(source), np.int32)
        for start in range(0, len(source), BLOCK):
            rows = range(start, min(start + BLOCK, len(source)))
            with told_if_damaged(path.parent):
                found = [record[self.label] for record in source.__getitems__(rows)]
                labels[start : start + len(rows)] = found
        self._checked(labels, split)
        with contextlib.suppress(OSError):  # a read-only disk only costs time
            np.save(path, labels, allow_pickle=False)
        return labels

    def _checked(self, labels: np.ndarray, split: str) -> np.ndarray:
        """Return labels, if each image has one.

        Raises:
          UserError: there are none, some are missing, or they have no names.
        """
        missing, classes = int((labels < 0).sum()), len(self.classes)
        where = f"the {split} split of {self.builder.name}"
        if not len(labels):
            raise UserError(f"{where} is empty: prepare the data set again")
        if missing:
            raise UserError(
                f"{where} has {missing:,} of {plural(len(labels), 'image')} without a "
                "label: give another data set, or prepare one of labeled images alone"
            )
        if labels.max() >= classes:
            raise UserError(
                f"{escape(user_path(self.builder.data_path))} is damaged (it has "
                f"{plural(classes, 'class name')}, and labels up to {labels.max()}): "
                "delete it, and prepare or copy it again"
            )
        return labels

    def groups(self, split: str) -> None:
        """Return None: data sets of TFDS have no groups."""

    def _records(self, split: str) -> TfdsRecords:
        return TfdsRecords(self.builder, split)

    def _choose_form(self) -> PixelFormat:
        height, width, channels = self.builder.info.features["image"].shape
        if height and width:
            infos = [ImageInfo(height, width, channels == 1)]
            scanned = {
                split: infos * len(self._records(split)) for split in self.splits
            }
        else:  # sizes are only in the images
            scanned = self._scan()
            records = {split: self._records(split) for split in scanned}
            read = {
                records[split].name(row): info
                for split, split_index in scanned.items()
                for row, info in enumerate(split_index)
                if not info.error
            }
            infos = [*read.values()]
            self.notes += depth_notes([*read], infos)
        self._sizes = {
            split: np.array([info[:2] for info in split_index], np.int32)
            for split, split_index in scanned.items()
        }
        config = self._config
        return choose_pixel_format(
            infos,
            config.image_size,
            config.fit,
            config.background,
            self.builder.name,
        )

    def _scan(self) -> dict[str, list[ImageInfo]]:
        """Return properties of all images, cached while records are unchanged."""
        cache_file = user_path(self.builder.data_path) / "facts.json"
        cached, rows = read_cache(cache_file, 2), {}
        for split in self.splits:
            file_states = self._records_state(split)
            if cached.get(split, [None])[0] == file_states:
                rows[split] = cached[split]
            else:
                infos = scan_images(self._records(split), self._title(split))
                rows[split] = [file_states, infos]
        scanned = {
            split: [ImageInfo(*info) for info in rows[split][1]]
            for split in self.splits
        }
        # Do not cache unreadable images: a decoder may be installed meanwhile.
        if rows != cached and not any(
            f.error for infos in scanned.values() for f in infos
        ):
            write_cache(cache_file, rows)
        return scanned

    def _records_state(self, split: str) -> str:
        """Return text that identifies the records of a split and how they are read."""
        files = [Path(path) for path in self.builder.info.splits[split].filepaths]
        with told_if_damaged(user_path(self.builder.data_path)):
            stats = [(path.name, path.stat()) for path in files]
        file_states = [
            f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats
        ]
        return "\n".join([READER_VERSION, " ".join(ImageInfo._fields), *file_states])

    def _title(self, split: str) -> str:
        return f"{self.builder.name} {split}"


def class_names(
    builder: tfds.core.DatasetBuilder, label: str = "label"
) -> tuple[str, ...]:
    """Return the class names of the label feature, in the order of the labels.

    Raises:
      UserError: there is no such label, or no image that can be read.
    """
    features = dict(builder.info.features)
    image = features.get("image")
    if not isinstance(image, tfds.features.Image):
        raise UserError(
            f"config.data.name={builder.name!r} is no image classification set: it has "
            f"{', '.join(features)} instead of an image and a label"
        )
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if label not in labels:
        raise UserError(
            f"config.data.label={label!r} is no label of {builder.name}, which has "
            f"{', '.join(labels) or 'none'}{closest(label, labels)}"
        )
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3, None):
        raise UserError(
            f"{builder.name} has images of {image.shape[-1]} channels of "
            f"{np.dtype(image.np_dtype).name}: only 8-bit gray and color are read"
        )
    names = tuple(features[label].names)
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(
            f"{escape(user_path(builder.data_path))} is damaged (it names two classes "
            f"{twice[0]!r}): delete it, and prepare or copy it again"
        )
    return names


def _name_notes(builder: tfds.core.DatasetBuilder, label: str) -> tuple[str, ...]:
    """Return a note if the class names of a data set may be lost.

    TFDS numbers classes that have no names. Only the code of a builder tells whether
    they should have some, and a set that is read from its files alone has none.
    """
    if not isinstance(builder, tfds.core.read_only_builder.ReadOnlyBuilder):
        return ()
    feature = builder.info.features[label]
    try:
        text = Path(builder.data_path, f"{label}.labels.txt").read_text("utf-8")
        named = text.split("\n")[: feature.num_classes] == feature.names
    except (OSError, ValueError):
        named = False
    if named or feature.names != [*map(str, range(feature.num_classes))]:
        return ()
    return (
        f"classes are numbered: {builder.name} has no names of them in "
        f"{label}.labels.txt",
    )


def _other_splits(
    builder: tfds.core.DatasetBuilder, given: Container[str]
) -> Iterator[str]:
    """Yield a note for each split that is neither trained on nor judged on."""
    for name, info in builder.info.splits.items():
        if name not in given:
            images = plural(info.num_examples, "image")
            yield f"{images} of the split {name} left out"


def split_sizes(builder: tfds.core.DatasetBuilder) -> dict[str, int]:
    """Return the number of images of each split that the builder has.

    Raises:
      UserError: there is no training split, or no other one.
    """
    splits = builder.info.splits
    sizes = {name: splits[name].num_examples for name in SPLITS if name in splits}
    if "train" not in sizes or len(sizes) < 2:
        raise UserError(
            f"config.data.name={builder.name!r} has the splits {', '.join(splits)}; "
            "train and test (or validation) are needed"
        )
    return sizes
