"""Fashion-MNIST (Xiao et al. 2017), from Debian's package or from its home page."""

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from hybrid_jax.data.builders.archives import fetch
from hybrid_jax.data.builders.base import Builder, DownloadManager, Examples
from hybrid_jax.data.image_io import encode_png
from hybrid_jax.errors import UserError, first_line

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # dataset-fashion-mnist
CLASSES = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


class Archive(NamedTuple):
    """A published archive.

    Attributes:
      size: size in bytes.
      sha256: hash of the archive.
      content_sha256: hash of its content. Debian's archives have the published content;
        they differ in the name and time that gzip wrote into the header.
    """

    size: int
    sha256: str
    content_sha256: str


ARCHIVES = {
    "train-images-idx3-ubyte.gz": Archive(
        26421880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte.gz": Archive(
        29515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte.gz": Archive(
        4422102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte.gz": Archive(
        5148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
REPLACE = (
    "remove or replace it, or put the four published archives into another folder, and "
    "give config.data.manual_dir"
)
_CITATION = """\
@article{xiao2017fashion,
  title={Fashion-{MNIST}: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms},
  author={Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  journal={arXiv preprint arXiv:1708.07747},
  year={2017}
}"""


class FashionMnist(Builder):
    """28x28 gray images of clothes, 60,000 for training and 10,000 for testing."""

    name = "fashion_mnist"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The published split."}
    HINT = "install Debian's package dataset-fashion-mnist"
    url_infos = {
        URL + name: tfds.download.checksums.UrlInfo(archive.size, archive.sha256, name)
        for name, archive in ARCHIVES.items()
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return self.make_info(
            {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(names=CLASSES),
            },
            description="Zalando's article images, a drop-in for MNIST.",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: DownloadManager) -> dict[str, Examples]:
        given = self.manual_dir  # set by config.data.manual_dir
        is_given = given and all((given / name).exists() for name in ARCHIVES)
        paths = {} if is_given else debian_archives()
        paths = paths or fetch(self, dl_manager)
        check_contents(paths)
        return {
            split: self._generate_examples(paths[images], paths[labels])
            for split, (images, labels) in FILES.items()
        }

    def _generate_examples(self, image_archive: Path, label_archive: Path) -> Examples:
        images, labels = read_idx(image_archive), read_idx(label_archive)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": encode_png(image), "label": int(label)}


def debian_archives() -> dict[str, Path]:
    """Return the four archives by name; empty unless Debian's package is complete."""
    paths = {name: DEBIAN_FOLDER / name for name in ARCHIVES}
    return paths if all(path.is_file() for path in paths.values()) else {}


def check_contents(paths: dict[str, Path]) -> None:
    """Refuse archives whose content is not Fashion-MNIST.

    Args:
      paths: the archives by name.

    Raises:
      UserError: an archive is damaged, or not the published one.
    """
    for name, archive in ARCHIVES.items():
        digest = hashlib.sha256(_unzip(paths[name])).hexdigest()
        if digest != archive.content_sha256:
            raise UserError(f"{paths[name]} is damaged or not Fashion-MNIST: {REPLACE}")


def read_idx(path: Path) -> np.ndarray:
    """Read bytes in the idx format: 0, 0, 8, rank, big-endian sizes, data."""
    content = _unzip(path)
    rank = content[3]
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _unzip(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        reason = first_line(error)
        raise UserError(f"{path} cannot be read ({reason}): {REPLACE}") from None
