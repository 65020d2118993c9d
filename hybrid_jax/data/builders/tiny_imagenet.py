"""Tiny ImageNet (Le and Yang 2015), from the archive as published."""

import contextlib
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from hybrid_jax.data.builders.archives import check_member, fetch
from hybrid_jax.data.builders.base import Builder, DownloadManager, Examples
from hybrid_jax.errors import UserError

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200/"
NUM_CLASSES = 200
# zipfile raises RuntimeError for encryption and for a compression that it lacks.
READ_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError)
_TRAIN = re.compile(rf"{ROOT}train/(n\d+)/images/\1_\d+\.JPEG")
_CITATION = """\
@techreport{le2015tiny,
  title={Tiny {ImageNet} Visual Recognition Challenge},
  author={Le, Ya and Yang, Xuan},
  institution={Stanford University, CS 231N},
  year={2015}
}"""


class TinyImagenet(Builder):
    """64x64 images of 200 classes, 100,000 for training and 10,000 for testing.

    The published validation set is the test split, since the labels of the
    published test set are secret. Labels follow the sorted WordNet ids.
    """

    name = "tiny_imagenet"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The published split, validation as test."}
    ARCHIVE = "tiny-imagenet-200.zip"
    url_infos = {
        URL: tfds.download.checksums.UrlInfo(
            248100043,
            "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
            ARCHIVE,
        )
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return self.make_info(
            {
                "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="jpeg"),
                # Its names are in the archive, see _split_generators.
                "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
            },
            description="200 classes of ImageNet, reduced to 64x64 px.",
            homepage="http://cs231n.stanford.edu/",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: DownloadManager) -> dict[str, Examples]:
        (archive,) = fetch(self, dl_manager).values()
        with open_archive(archive) as file:
            wnids = read_wnids(file)
            names = class_names(file, wnids)
            splits = {"train": train_files(file), "test": validation_files(file)}
        for split, files in splits.items():
            if set(files.values()) != set(wnids):
                raise UserError(
                    f"{archive} is damaged: the classes of its {split} images are "
                    "not those of wnids.txt"
                )
        # TFDS writes the names beside the records and reads them back from there.
        self.info.features["label"].names = names
        return {
            split: self._generate_examples(archive, files, wnids)
            for split, files in splits.items()
        }

    def _generate_examples(
        self, archive: Path, files: dict[str, str], wnids: list[str]
    ) -> Examples:
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        with open_archive(archive) as file:
            for name, wnid in files.items():
                # Keep the published file: encoding again would lose detail.
                image = read_file(file, name)
                yield name, {"image": image, "label": labels[wnid]}


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive and check its members.

    Raises:
      UserError: the archive cannot be read or is not safe.
    """
    try:
        with zipfile.ZipFile(path) as file:
            for member in file.infolist():
                file_type = stat.S_IFMT(member.external_attr >> 16)
                # 0: the archive has no file types
                regular = file_type in (0, stat.S_IFREG, stat.S_IFDIR)
                check_member(path, member.filename, regular)
            yield file
    except READ_ERRORS as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def read_file(file: zipfile.ZipFile, name: str) -> bytes:
    """Read a file of the archive; nothing is written to disk."""
    try:
        member = file.getinfo(name)
    except KeyError:
        raise UserError(f"{file.filename} is damaged: it lacks {name}") from None
    return file.read(member)


def read_wnids(file: zipfile.ZipFile) -> list[str]:
    """Return the WordNet ids of the classes in the order of the labels."""
    wnids = sorted(set(_read_text(file, "wnids.txt").split()))
    if len(wnids) != NUM_CLASSES:
        raise UserError(
            f"{file.filename} is damaged: wnids.txt has {len(wnids)} classes instead "
            f"of {NUM_CLASSES}"
        )
    return wnids


def class_names(file: zipfile.ZipFile, wnids: list[str]) -> list[str]:
    """Return each class's first word, with its WordNet id where two share the word."""
    lines = _read_text(file, "words.txt").splitlines()
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    if missing := [wnid for wnid in wnids if wnid not in words]:
        raise UserError(
            f"{file.filename} is damaged: words.txt lacks {', '.join(missing[:3])}"
        )
    first = [words[wnid].split(",")[0].strip() for wnid in wnids]
    count = Counter(first)
    return [
        word if count[word] == 1 else f"{word} {wnid}"
        for word, wnid in zip(first, wnids, strict=True)
    ]


def train_files(file: zipfile.ZipFile) -> dict[str, str]:
    """Return the WordNet id of each training image by file name."""
    matches = map(_TRAIN.fullmatch, file.namelist())
    return {match[0]: match[1] for match in matches if match}


def validation_files(file: zipfile.ZipFile) -> dict[str, str]:
    """Return the WordNet id of each image of the published validation set."""
    lines = _read_text(file, "val/val_annotations.txt").splitlines()
    fields = (line.split("\t") for line in lines if "\t" in line)
    return {f"{ROOT}val/images/{name}": wnid for name, wnid, *_ in fields}


def _read_text(file: zipfile.ZipFile, name: str) -> str:
    return read_file(file, ROOT + name).decode("utf-8", errors="replace")
