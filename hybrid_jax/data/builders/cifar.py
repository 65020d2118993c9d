"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the binary archives as published."""

import tarfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from hybrid_jax.data.builders.archives import check_member, fetch
from hybrid_jax.data.builders.base import Builder, DownloadManager, Examples
from hybrid_jax.data.image_io import encode_png
from hybrid_jax.errors import UserError

URL = "https://www.cs.toronto.edu/~kriz/"
SHAPE = (3, 32, 32)  # of a record's pixels, which follow its labels of one byte each
CIFAR10_CLASSES = """
    airplane automobile bird cat deer dog frog horse ship truck
""".split()
CIFAR100_SUPERCLASSES = """
    aquatic_mammals fish flowers food_containers fruit_and_vegetables
    household_electrical_devices household_furniture insects large_carnivores
    large_man-made_outdoor_things large_natural_outdoor_scenes
    large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people
    reptiles small_mammals trees vehicles_1 vehicles_2
""".split()
CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge
    bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud
    cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox
    girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter
    palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit
    raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
""".split()
_CITATION = """\
@techreport{krizhevsky2009learning,
  title={Learning Multiple Layers of Features from Tiny Images},
  author={Krizhevsky, Alex},
  institution={University of Toronto},
  year={2009}
}"""


class _Cifar(Builder):
    """Base of both sets: 50,000 color images for training, 10,000 for testing."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The published split."}
    ARCHIVE: str
    FILES: dict[str, list[str]]  # members of the archive by split
    LABELS: dict[str, list[str]]  # class names, in the order of a record's label bytes

    def _info(self) -> tfds.core.DatasetInfo:
        labels = {
            feature: tfds.features.ClassLabel(names=names)
            for feature, names in self.LABELS.items()
        }
        return self.make_info(
            {"image": tfds.features.Image(shape=(32, 32, 3)), **labels},
            description="Labeled subset of the 80 million tiny images, 32x32 px.",
            homepage=URL + "cifar.html",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: DownloadManager) -> dict[str, Examples]:
        (archive,) = fetch(self, dl_manager).values()
        return {
            split: self._generate_examples(archive, names)
            for split, names in self.FILES.items()
        }

    def _generate_examples(self, archive: Path, names: list[str]) -> Examples:
        for name, content in read_files(archive, names).items():
            records = parse_records(content, len(self.LABELS))
            if records is None:
                raise UserError(
                    f"{archive} is damaged: {name} ends in the middle of a record"
                )
            for i, (numbers, image) in enumerate(zip(*records, strict=True)):
                labels = dict(zip(self.LABELS, numbers.tolist(), strict=True))
                yield f"{name} {i}", {"image": encode_png(image), **labels}


class Cifar10(_Cifar):
    """32x32 color images of 10 classes."""

    name = "cifar10"
    ARCHIVE = "cifar-10-binary.tar.gz"
    url_infos = {
        URL + ARCHIVE: tfds.download.checksums.UrlInfo(
            170052171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ARCHIVE,
        )
    }
    FILES = {
        "train": [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)],
        "test": ["cifar-10-batches-bin/test_batch.bin"],
    }
    LABELS = {"label": CIFAR10_CLASSES}


class Cifar100(_Cifar):
    """32x32 color images of 100 classes, which 20 superclasses group."""

    name = "cifar100"
    ARCHIVE = "cifar-100-binary.tar.gz"
    url_infos = {
        URL + ARCHIVE: tfds.download.checksums.UrlInfo(
            168513733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ARCHIVE,
        )
    }
    FILES = {
        "train": ["cifar-100-binary/train.bin"],
        "test": ["cifar-100-binary/test.bin"],
    }
    LABELS = {"coarse_label": CIFAR100_SUPERCLASSES, "label": CIFAR100_CLASSES}


def read_files(archive: Path, names: list[str]) -> dict[str, bytes]:
    """Return regular files of a `.tar.gz` by their exact names.

    Nothing is written to disk.

    Raises:
      UserError: the archive cannot be read, is not safe, or lacks a file.
    """
    files = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                check_member(archive, member.name, member.isreg() or member.isdir())
                if member.name in names and (file := tar.extractfile(member)):
                    files[member.name] = file.read()
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{archive} cannot be read: {error}") from None
    if missing := [name for name in names if name not in files]:
        raise UserError(f"{archive} is damaged: it lacks {', '.join(missing)}")
    return files


def parse_records(
    content: bytes, label_bytes: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return labels `[N, label_bytes]` and images `[N, 32, 32, 3]`; None if cut off."""
    size = label_bytes + int(np.prod(SHAPE))
    if len(content) % size:
        return None
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    images = records[:, label_bytes:].reshape(-1, *SHAPE).transpose(0, 2, 3, 1)
    return records[:, :label_bytes], images
