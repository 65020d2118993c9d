"""The encoded images of a split that TFDS has prepared in ArrayRecord files."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from hybrid_jax.errors import UserError, escape, first_line
from hybrid_jax.paths import user_path

OTHER_FORMAT = re.compile(r"File format is already set to FileFormat\.(\w+)")


class TfdsRecords:
    """The encoded images of a split; can be pickled.

    Attributes:
      source: TFDS's source of the records, with their images encoded.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        """Open the files of the records.

        Raises:
          UserError: they are not in the format ArrayRecord, or cannot be read.
        """
        self._split, self._place = split, user_path(builder.data_path)
        if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
            raise UserError(other_format(self._place, builder.info.file_format.value))
        with told_if_damaged(self._place):
            self.source: Any = builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: Sequence[int]) -> list[bytes]:
        # TFDS's sources have this method, which `Sequence` lacks.
        with told_if_damaged(self._place):
            return [record["image"] for record in self.source.__getitems__(rows)]

    def name(self, row: int) -> str:
        """Return the name of an image, as `config.data.exclude` takes it."""
        return f"{self._split}/{row}"


def check_counts(builder: tfds.core.DatasetBuilder, splits: Iterable[str]) -> None:
    """Refuse a file that holds more or fewer records than the metadata say.

    TFDS reads as many records of each file as `dataset_info.json` says, and would leave
    out the others.

    Raises:
      UserError: the numbers differ, or a file cannot be read.
    """
    place = user_path(builder.data_path)
    for split in splits:
        info = builder.info.splits[split]
        for path, told in zip(info.filepaths, info.shard_lengths, strict=True):
            with told_if_damaged(place):
                found = len(ArrayRecordDataSource(str(path)))
                if found != told:
                    raise ValueError(
                        f"dataset_info.json tells of {told:,} images in {path.name}, "
                        f"which holds {found:,}"
                    )


def other_format(place: Path, file_format: str) -> str:
    """Return the message that a data set is in a format that is not read."""
    return (
        f"{escape(place)} holds {file_format} files; prepare it again with "
        "file_format=array_record"
    )


@contextlib.contextmanager
def told_if_damaged(place: Path) -> Iterator[None]:
    """Name the folder of a data set whose files cannot be read.

    Raises:
      UserError: in the place of whatever TFDS and its readers raise.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        check_readable(place)
        if found := OTHER_FORMAT.search(str(error)):
            raise UserError(other_format(place, found[1].lower())) from None
        raise UserError(
            f"{escape(place)} is damaged ({first_line(error)}): delete it, and prepare "
            "or copy it again"
        ) from None


def check_readable(place: Path) -> None:
    """Refuse a data set of which this user may not read a folder or a file.

    Args:
      place: folder of a version of the data set, such as `data/digits/1.0.0`.

    Raises:
      UserError: there is one; the message names it.
    """
    for folder in (place.parents[1], place.parent, place):
        _check_access(folder, os.R_OK | os.X_OK)
    for pattern in ("*.json", "*.labels.txt", "*.array_record*"):  # no caches
        for file in place.glob(pattern):
            _check_access(file, os.R_OK)


def _check_access(path: Path, mode: int) -> None:
    try:
        is_open = not path.exists() or os.access(path, mode)
    except PermissionError:  # of a folder above it
        is_open = False
    if not is_open:
        raise UserError(
            f"{escape(path)} cannot be read (permission denied): ask its owner for "
            "read access"
        )
