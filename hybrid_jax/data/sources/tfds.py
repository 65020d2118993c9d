"""Source of TFDS data sets in ArrayRecord files, without TensorFlow.

Records may have been prepared by another program; this project's builders prepare their
own.
"""

import contextlib
import hashlib
import importlib.util
import io
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import tensorflow_datasets as tfds

from hybrid_jax.data.builders import builder_class, builder_names
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
from hybrid_jax.data.splitting import left_out_note, used_splits
from hybrid_jax.errors import UserError, closest, escape, first_line, plural
from hybrid_jax.paths import expand_user, library_path, user_path, with_user_paths

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
        self.unused = {n: size for n, size in given.items() if n not in self.splits}
        others = [name for name in self.builder.info.splits if name not in given]
        self.notes: tuple[str, ...] = (
            *(f"the split {name} is left out" for name in others),
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
            with _told_if_damaged(path.parent):
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

    def _records(self, split: str) -> "TfdsRecords":
        if self.builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
            raise UserError(
                f"{user_path(self.builder.data_path)} holds "
                f"{self.builder.info.file_format.value} files; prepare it again with "
                "file_format=array_record"
            )
        place = user_path(self.builder.data_path)
        with _told_if_damaged(place):
            source = self.builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        return TfdsRecords(source, split, place)

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
        with _told_if_damaged(user_path(self.builder.data_path)):
            stats = [(path.name, path.stat()) for path in files]
        file_states = [
            f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats
        ]
        return "\n".join([READER_VERSION, " ".join(ImageInfo._fields), *file_states])

    def _title(self, split: str) -> str:
        return f"{self.builder.name} {split}"


class TfdsRecords:
    """The encoded images of a split; can be pickled."""

    def __init__(self, source: Any, split: str, place: Path):
        self.source, self._split, self._place = source, split, place

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: Sequence[int]) -> list[bytes]:
        # TFDS's sources have this method, which `Sequence` lacks.
        with _told_if_damaged(self._place):
            return [record["image"] for record in self.source.__getitems__(rows)]

    def name(self, row: int) -> str:
        """Return the name of an image, as `config.data.exclude` takes it."""
        return f"{self._split}/{row}"


@contextlib.contextmanager
def _told_if_damaged(place: Path) -> Iterator[None]:
    """Name the folder of a data set whose files cannot be read.

    Raises:
      UserError: in the place of whatever TFDS and its readers raise.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{escape(place)} is damaged ({first_line(error)}): delete it, and prepare "
            "or copy it again"
        ) from None


def open_builder(
    name: str, data_dir: str, manual_dir: str = ""
) -> tfds.core.DatasetBuilder:
    """Open a builder, and prepare its records on disk if needed.

    Args:
      name: name of the data set.
      data_dir: folder of all data sets; empty for the default of TFDS.
      manual_dir: folder of archives that the user downloaded; empty for the default.

    Raises:
      UserError: the data set does not exist, or cannot be prepared here.
    """
    builder, folder = _find_builder(name, data_dir)
    if builder.is_prepared():
        return builder
    _prepare(builder, folder, manual_dir)
    builder, _ = _find_builder(name, data_dir)  # which now knows its splits
    if not builder.is_prepared():
        place = user_path(builder.data_path)
        raise UserError(f"{escape(place)} is incomplete: delete it")
    return builder


def is_prepared(name: str, data_dir: str) -> bool:
    """Return whether a data set's records are on disk.

    Raises:
      UserError: the data set does not exist.
    """
    builder, _ = _find_builder(name, data_dir)
    return bool(builder.is_prepared())


def _find_builder(name: str, data_dir: str) -> tuple[tfds.core.DatasetBuilder, Path]:
    """Return the builder of a data set, and the folder of all data sets."""
    folder = library_path(expand_user(data_dir or tfds.core.constants.DATA_DIR))
    if name in builder_names():
        with _told_if_damaged(user_path(folder) / name):
            builder = builder_class(name)(data_dir=folder, file_format="array_record")
    else:
        builder = _open_tfds(name, folder)
    return builder, folder


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
    return tuple(features[label].names)


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


def _open_tfds(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(name, data_dir=folder, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError:
        known = [*builder_names(), *tfds.list_builders(with_community_datasets=False)]
        raise UserError(
            f"config.data.name={name!r} is no data set{closest(name, known)}; "
            f"valid: {', '.join(builder_names())}, folder (configs/folder.py), any "
            "image classification set of TFDS, or one that TFDS prepared in "
            f"{user_path(folder) / name}"
        ) from None
    except Exception as error:  # unknown versions, configurations and remote catalogs
        raise UserError(
            f"config.data.name={name!r} cannot be opened: {first_line(error)}"
        ) from None


def _prepare(
    builder: tfds.core.DatasetBuilder, folder: Path, manual_dir: str = ""
) -> None:
    ours = builder.name in builder_names()
    if not ours and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{builder.name} is not in {user_path(builder.data_path)}. Put a copy "
            "there that TFDS prepared with file_format=array_record, or install "
            "TensorFlow, which TFDS needs to prepare this set (pip install tensorflow)"
        )
    place = user_path(builder.data_path)
    # Print to stderr: standard output is for the results of a command.
    line = f"preparing {builder.name} in {escape(place)}, once"
    print(line, file=sys.stderr, flush=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    manual = expand_user(manual_dir) if manual_dir else None
    if manual and not manual.is_dir():
        raise UserError(f"config.data.manual_dir={manual_dir!r} is no folder")
    builder.manual_dir = manual
    try:
        # `folder` may be a link: create the folder that it refers to.
        user_path(folder).mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(user_path(folder) / f".{builder.name}.lock")
        # TFDS prints the same line, and refuses what another process has prepared.
        with lock, contextlib.redirect_stdout(io.StringIO()):
            if builder.is_prepared():
                return
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    try_download_gcs=False, manual_dir=manual
                ),
                file_format="array_record",
            )
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"{builder.name} cannot be written to {user_path(folder)}: "
            f"{with_user_paths(str(error))}"
        ) from None
    except Exception as error:  # TFDS and its writers raise many kinds
        raise UserError(
            f"{builder.name} cannot be prepared: {first_line(error)}"
        ) from None
