"""digits: 1,797 scans of handwritten digits that come inside scikit-learn's wheel."""

import numpy as np
import tensorflow_datasets as tfds

from hybrid_jax.data.builders.base import Builder, DownloadManager, Examples
from hybrid_jax.data.image_io import encode_png

_CITATION = """\
@misc{alpaydin1998optical,
  title={Optical Recognition of Handwritten Digits},
  author={Alpaydin, Ethem and Kaynak, Cenk},
  year={1998},
  howpublished={UCI Machine Learning Repository},
  doi={10.24432/C50P49}
}"""

SPLIT_SEED = 0
TEST_FRACTION = 0.2


class Digits(Builder):
    """8x8 gray images, 80% train and 20% test, stratified by class, seeded."""

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Split 80/20, stratified, seed 0."}
    url_infos = None  # nothing is downloaded

    def _info(self) -> tfds.core.DatasetInfo:
        return self.make_info(
            {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            },
            description="Scans of handwritten digits, 8x8 px, 17 levels of gray.",
            homepage="https://doi.org/10.24432/C50P49",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: DownloadManager) -> dict[str, Examples]:
        train, test = split_indices()
        return {
            "train": self._generate_examples(train),
            "test": self._generate_examples(test),
        }

    def _generate_examples(self, indices: np.ndarray) -> Examples:
        images, labels = load_scans()
        for i in indices:
            example = {"image": encode_png(images[i]), "label": int(labels[i])}
            yield int(i), example


def load_scans() -> tuple[np.ndarray, np.ndarray]:
    """Return all scans, uint8 `[1797, 8, 8]` scaled from 0-16 to 0-255, and labels."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    images = np.rint(scans.images * (255 / 16)).astype(np.uint8)
    return images, scans.target


def split_indices() -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training scans, and of the test scans."""
    from sklearn.model_selection import train_test_split

    _, labels = load_scans()
    return train_test_split(
        np.arange(len(labels)),
        test_size=TEST_FRACTION,
        stratify=labels,
        random_state=SPLIT_SEED,
    )
