"""Open a builder of TFDS, and prepare its records on disk if needed."""

import contextlib
import importlib.util
import io
import shutil
import sys
from pathlib import Path

import filelock
import tensorflow_datasets as tfds

from hybrid_jax.data.builders import builder_class, builder_names
from hybrid_jax.data.sources.tfds_records import check_readable, told_if_damaged
from hybrid_jax.errors import UserError, closest, escape, first_line
from hybrid_jax.paths import expand_user, library_path, user_path, with_user_paths


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
    check_readable(user_path(builder.data_path))
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
        found = builder_class(name)
        with told_if_damaged(user_path(folder) / name / str(found.VERSION)):
            builder = found(data_dir=folder, file_format="array_record")
    else:
        builder = _open_tfds(name, folder)
    return builder, folder


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
            if ours:
                _remove_incomplete(place)
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


def _remove_incomplete(place: Path) -> None:
    """Remove what preparations that were killed have left; only under the lock."""
    for left in place.parent.glob(f"incomplete.*_{place.name}"):
        shutil.rmtree(left, ignore_errors=True)
