"""From the name of a data set to its records: TFDS in ArrayRecord form, no TensorFlow.

Records that another program prepared are read as they are; this project's own builders
prepare theirs.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import io
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from hybrid_jax.data.builders import BUILDERS
from hybrid_jax.data.dataset import SPLITS
from hybrid_jax.data.decode_cache import decoded
from hybrid_jax.data.image_io import READER, Facts, Form
from hybrid_jax.data.lazy_images import Encoded, choose_form, look_through
from hybrid_jax.data.scan_cache import READ_BY, remember, remembered
from hybrid_jax.data.splitting import left_out_note, used_splits
from hybrid_jax.errors import UserError, closest, first_line, shown
from hybrid_jax.paths import expanded, given, plain, with_user_paths

if typing.TYPE_CHECKING:
    from hybrid_jax.config.schema import DataConfig

RECORDS_AT_ONCE = 2048


class Prepared:
    """A data set that TFDS has prepared, or that is prepared here and now."""

    def __init__(self, options: "DataConfig"):
        """See the fields of `config.data`.

        Raises:
          UserError: no such set, not to be had, or no image classification set.
        """
        self.fingerprint = ""
        self.builder = open_builder(options.name, options.dir, options.manual_dir)
        self.label, self._options = options.label, options
        self.classes = class_names(self.builder, options.label)
        given = split_sizes(self.builder)
        self.splits = used_splits(given, options)
        self.unused = {n: size for n, size in given.items() if n not in self.splits}
        others = [name for name in self.builder.info.splits if name not in given]
        self.notes = (
            *(f"the split {name} is left out" for name in others),
            *map(left_out_note, self.unused.values()),
        )
        self.form = self._choose_form()

    def images(self, split: str) -> Encoded:
        """The images of a split."""
        records = self._records(split)
        rows = np.arange(len(records))
        return Encoded(records, self.form, rows, self._sizes[split])

    def decoded(self, split: str) -> np.ndarray:
        """All of their pixels, uint8 `[N, H, W, C]`."""
        return decoded(self.images(split), self._folder(split), self._title(split))

    def labels(self, split: str) -> np.ndarray:
        """Labels int32 `[N]`, in the order of the images."""
        path = self._folder(split).with_name(f"{self.label}-{split}.npy")
        source = self._records(split).source
        with contextlib.suppress(OSError, ValueError, EOFError):
            labels = np.load(path, allow_pickle=False)
            if len(labels) == len(source):  # else its writing was cut off
                return labels
        labels = np.empty(len(source), np.int32)
        for start in range(0, len(source), RECORDS_AT_ONCE):
            rows = range(start, min(start + RECORDS_AT_ONCE, len(source)))
            records = source.__getitems__(rows)
            labels[start : start + len(rows)] = [r[self.label] for r in records]
        if not len(labels) or labels.min() < 0:
            raise UserError(
                f"the {split} split of {self.builder.name} has no labelled images"
            )
        with contextlib.suppress(OSError):  # a read-only disk costs time alone
            np.save(path, labels, allow_pickle=False)
        return labels

    def groups(self, split: str) -> None:
        """Nothing says what belongs together."""

    def _records(self, split: str) -> "TfdsRecords":
        if self.builder.info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
            raise UserError(
                f"{given(self.builder.data_path)} holds "
                f"{self.builder.info.file_format.value} files; prepare it again with "
                "file_format=array_record"
            )
        source = self.builder.as_data_source(
            split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        return TfdsRecords(source, self._title(split))

    def _choose_form(self) -> Form:
        height, width, channels = self.builder.info.features["image"].shape
        if height and width:
            facts = [Facts(height, width, channels == 1)]
            looked = {split: facts * len(self._records(split)) for split in self.splits}
        else:  # the sizes are only known from the images
            looked = self._look_through()
            facts = [f for of_split in looked.values() for f in of_split if not f.error]
        self._sizes = {
            split: np.array([fact[:2] for fact in of_split], np.int32)
            for split, of_split in looked.items()
        }
        options = self._options
        return choose_form(
            facts,
            options.image_size,
            options.fit,
            options.background,
            self.builder.name,
        )

    def _look_through(self) -> dict[str, list[Facts]]:
        """The facts of every image; those of the same records are remembered."""
        memory = given(self.builder.data_path) / "facts.json"
        known, rows = remembered(memory, 2), {}
        for split in self.splits:
            stamp = self._stamp(split)
            if known.get(split, [None])[0] == stamp:
                rows[split] = known[split]
            else:
                facts = look_through(self._records(split), self._title(split))
                rows[split] = [stamp, facts]
        looked = {
            split: [Facts(*fact) for fact in rows[split][1]] for split in self.splits
        }
        # What could not be read may be read once a decoder is there.
        if rows != known and not any(
            f.error for facts in looked.values() for f in facts
        ):
            remember(memory, rows)
        return looked

    def _stamp(self, split: str) -> str:
        """What tells the records of a split, and how they are read, from others."""
        files = [Path(path) for path in self.builder.info.splits[split].filepaths]
        stats = [(path.name, path.stat()) for path in files]
        state = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]
        return "\n".join([READ_BY, " ".join(Facts._fields), *state])

    def _folder(self, split: str) -> Path:
        form = self.form
        shape = "x".join(map(str, (*form.size, form.channels)))
        digest = hashlib.sha256(f"{form} {READER}".encode()).hexdigest()[:8]
        name = f"decoded-{split}-{shape}-{digest}"
        return given(self.builder.data_path) / name

    def _title(self, split: str) -> str:
        return f"{self.builder.name} {split}"


class TfdsRecords:
    """The encoded images of a split; can be handed to another process."""

    def __init__(self, source: Sequence, title: str):
        self.source, self._title = source, title

    def __len__(self) -> int:
        return len(self.source)

    def read(self, rows: Sequence[int]) -> list[bytes]:
        return [record["image"] for record in self.source.__getitems__(rows)]

    def name(self, row: int) -> str:
        return f"image {row} of {self._title}"


def open_builder(
    name: str, data_dir: str, manual_dir: str = ""
) -> tfds.core.DatasetBuilder:
    """A builder whose records lie on disk, preparing them first if need be."""
    folder = plain(expanded(data_dir or tfds.core.constants.DATA_DIR))
    if name in BUILDERS:
        module, cls = BUILDERS[name]
        builder_cls = getattr(importlib.import_module(module), cls)
        builder = builder_cls(data_dir=folder, file_format="array_record")
    else:
        builder = _open_tfds(name, folder)
    if not builder.is_prepared():
        _prepare(builder, folder, manual_dir)
    return builder


def class_names(
    builder: tfds.core.DatasetBuilder, label: str = "label"
) -> tuple[str, ...]:
    """Names in the order of the labels, of the feature that is the label."""
    features = dict(builder.info.features)
    image = features.get("image")
    if not isinstance(image, tfds.features.Image):
        raise UserError(
            f"config.data.name={builder.name!r} is no image classification set: it has "
            f"{', '.join(features)} instead of an image and a label"
        )
    kinds = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if label not in kinds:
        raise UserError(
            f"config.data.label={label!r} is no label of {builder.name}, which has "
            f"{', '.join(kinds) or 'none'}{closest(label, kinds)}"
        )
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3, None):
        raise UserError(
            f"{builder.name} has images of {image.shape[-1]} channels of "
            f"{np.dtype(image.np_dtype).name}: only 8-bit gray and color are read"
        )
    return tuple(features[label].names)


def split_sizes(builder: tfds.core.DatasetBuilder) -> dict[str, int]:
    """How many images the training, validation and test split have, if they are there.

    Raises:
      UserError: there is none to train on, or none beside it.
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
        known = [*BUILDERS, *tfds.list_builders(with_community_datasets=False)]
        raise UserError(
            f"config.data.name={name!r} is no data set{closest(name, known)}; "
            f"valid: {', '.join(BUILDERS)}, folder (configs/folder.py), any image "
            "classification set of TFDS, or one that TFDS prepared in "
            f"{given(folder) / name}"
        ) from None
    except Exception as error:  # of a version, a configuration, a remote catalogue
        raise UserError(
            f"config.data.name={name!r} cannot be opened: {first_line(error)}"
        ) from None


def _prepare(
    builder: tfds.core.DatasetBuilder, folder: Path, manual_dir: str = ""
) -> None:
    ours = builder.name in BUILDERS
    if not ours and importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{builder.name} is not in {given(builder.data_path)}. Put a copy there "
            "that TFDS prepared with file_format=array_record, or install TensorFlow, "
            "which TFDS needs to prepare this set (pip install tensorflow)"
        )
    place = given(builder.data_path)
    print(f"preparing {builder.name} in {shown(place)}, once", flush=True)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    manual = expanded(manual_dir) if manual_dir else None
    if manual and not manual.is_dir():
        raise UserError(f"config.data.manual_dir={manual_dir!r} is no folder")
    builder.manual_dir = manual
    try:
        given(folder).mkdir(parents=True, exist_ok=True)  # or a link to it is none
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself too
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
            f"{builder.name} cannot be written to {given(folder)}: "
            f"{with_user_paths(str(error))}"
        ) from None
    except Exception as error:  # TFDS and its writers raise many kinds
        raise UserError(
            f"{builder.name} cannot be prepared: {first_line(error)}"
        ) from None
