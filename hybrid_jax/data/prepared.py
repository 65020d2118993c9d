"""From a name to decoded arrays: TFDS builders in ArrayRecord form, no TensorFlow.

A split is decoded once; its pixels are then kept beside the records as `.npy` files,
which a later run maps instead of decoding again.
"""

import contextlib
import importlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from rich.progress import track

from hybrid_jax.data.builders import BUILDERS
from hybrid_jax.errors import UserError, closest, first_line

# Asked for together, records come five times faster than one at a time.
RECORDS_AT_ONCE = 2048


def open_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
    """A builder whose records lie on disk, preparing them first if need be."""
    folder = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    if name in BUILDERS:
        module, cls = BUILDERS[name]
        builder_cls = getattr(importlib.import_module(module), cls)
        builder = builder_cls(data_dir=folder, file_format="array_record")
    else:
        builder = _open_tfds(name, folder)
    if not builder.is_prepared():
        _prepare(builder, folder)
    return builder


def class_names(builder: tfds.core.DatasetBuilder) -> tuple[str, ...]:
    """Names in the order of the labels."""
    features = builder.info.features
    label = dict(features).get("label")
    image = dict(features).get("image")
    if not (
        isinstance(image, tfds.features.Image)
        and isinstance(label, tfds.features.ClassLabel)
    ):
        raise UserError(
            f"config.data.name={builder.name!r} is no image classification set: it has "
            f"{', '.join(features)} instead of an image and a label"
        )
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3, None):
        raise UserError(
            f"{builder.name} has images of {image.shape[-1]} channels of "
            f"{np.dtype(image.np_dtype).name}: only 8-bit gray and color are read"
        )
    return tuple(label.names)


def split_names(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    """Training and test split; sets without a test split are tested on validation."""
    splits = builder.info.splits
    test = next((name for name in ("test", "validation") if name in splits), None)
    if "train" not in splits or test is None:
        raise UserError(
            f"config.data.name={builder.name!r} has the splits {', '.join(splits)}; "
            "train and test (or validation) are needed"
        )
    return "train", test


def decode_split(
    builder: tfds.core.DatasetBuilder, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, H, W, C]` and labels int32 `[N]`."""
    folder = Path(builder.data_path) / f"decoded-{split}"
    if not folder.is_dir():
        images, labels = _decode(builder, split)
        if not _keep(folder, images, labels):
            return images, labels
    try:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        return images, np.load(folder / "labels.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): delete it") from None


def _open_tfds(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(name, data_dir=folder, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError:
        known = [*BUILDERS, *tfds.list_builders(with_community_datasets=False)]
        raise UserError(
            f"config.data.name={name!r} is no data set{closest(name, known)}; "
            f"valid: {', '.join(BUILDERS)}, any image classification set of TFDS, or "
            f"one that TFDS prepared in {folder / name}"
        ) from None
    except Exception as error:  # of a version, a configuration, a remote catalogue
        raise UserError(
            f"config.data.name={name!r} cannot be opened: {first_line(error)}"
        ) from None


def _prepare(builder: tfds.core.DatasetBuilder, folder: Path) -> None:
    ours = builder.name in BUILDERS
    if not ours and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{builder.name} is not in {builder.data_path}. Put a copy there that TFDS "
            "prepared with file_format=array_record, or install TensorFlow, which TFDS "
            "needs to prepare this set (pip install tensorflow)"
        )
    print(f"preparing {builder.name} in {builder.data_path}, once", flush=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself too
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                file_format="array_record",
            )
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"{builder.name} cannot be written to {folder}: {error}"
        ) from None
    except Exception as error:  # TFDS and its writers raise many kinds
        raise UserError(
            f"{builder.name} cannot be prepared: {first_line(error)}"
        ) from None


def _decode(builder: tfds.core.DatasetBuilder, split: str):
    if builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{builder.data_path} holds {builder.info.file_format.value} files; "
            "prepare it again with file_format=array_record"
        )
    source = builder.as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    channels = builder.info.features["image"].shape[-1]
    images, labels = None, np.empty(len(source), np.int32)
    for start in track(
        range(0, len(source), RECORDS_AT_ONCE),
        f"decoding {builder.name} {split}",
        transient=True,
        disable=len(source) <= RECORDS_AT_ONCE,
    ):
        rows = range(start, min(start + RECORDS_AT_ONCE, len(source)))
        for i, record in zip(rows, source.__getitems__(rows), strict=True):
            pixels = _pixels(record["image"], channels)
            if images is None:
                images = np.empty((len(source), *pixels.shape), np.uint8)
            if pixels.shape != images.shape[1:]:
                raise UserError(
                    f"{builder.name} has images of {images.shape[1:]} and "
                    f"{pixels.shape}; all must have one size"
                )
            images[i], labels[i] = pixels, record["label"]
    if not len(labels) or labels.min() < 0:
        raise UserError(f"the {split} split of {builder.name} has no labelled images")
    return images, labels


def _pixels(encoded: bytes, channels: int | None) -> np.ndarray:
    image = Image.open(io.BytesIO(encoded)).convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _keep(folder: Path, images: np.ndarray, labels: np.ndarray) -> bool:
    """Writes the arrays so that the folder exists whole or not at all."""
    scratch = None
    try:
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".decoding-"))
        np.save(scratch / "images.npy", images, allow_pickle=False)
        np.save(scratch / "labels.npy", labels, allow_pickle=False)
        os.rename(scratch, folder)
    except OSError:  # a read-only or full disk costs a decoding a run, nothing else
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
        return False
    return True
