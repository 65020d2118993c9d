"""Galaxy10 DECaLS (Leung and Bovy): galaxies by their shape, labeled by volunteers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import tensorflow_datasets as tfds

from hybrid_jax.data import subsets
from hybrid_jax.data.builders.archives import fetch
from hybrid_jax.data.builders.base import Builder, DownloadManager, Examples
from hybrid_jax.data.image_io import encode_png
from hybrid_jax.errors import UserError
from hybrid_jax.extras import import_extra

if TYPE_CHECKING:
    import h5py

URL = "https://zenodo.org/records/10845026/files/Galaxy10_DECals.h5"
CLASSES = [
    "Disturbed",
    "Merging",
    "Round Smooth",
    "In-between Round Smooth",
    "Cigar Shaped Smooth",
    "Barred Spiral",
    "Unbarred Tight Spiral",
    "Unbarred Loose Spiral",
    "Edge-on without Bulge",
    "Edge-on with Bulge",
]
SHAPE = (256, 256, 3)
SPLIT_SEED = 0
TEST_FRACTION = 0.1
MEASUREMENTS = ("ra", "dec", "redshift")
MAX_ROWS = 2048  # 400 MB of pixels
_CITATION = """\
@article{walmsley2022galaxy,
  title={Galaxy Zoo {DECaLS}: Detailed visual morphology measurements from volunteers
    and deep learning for 314,000 galaxies},
  author={Walmsley, Mike and Lintott, Chris and G{\\'e}ron, Tobias and others},
  journal={Monthly Notices of the Royal Astronomical Society},
  volume={509},
  pages={3966--3988},
  year={2022}
}"""


class Galaxy10(Builder):
    """17,736 color images of galaxies, 256x256 px, 90% train and 10% test.

    No split was published. This one is stratified by class and seeded, and images
    of the same point of the sky are in the same split.
    """

    name = "galaxy10"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {
        "1.0.0": "Split 90/10, stratified, grouped by coordinates, seed 0."
    }
    ARCHIVE = "Galaxy10_DECals.h5"
    url_infos = {
        URL: tfds.download.checksums.UrlInfo(
            2735267419,
            "19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571",
            ARCHIVE,
        )
    }

    def _info(self) -> tfds.core.DatasetInfo:
        # Store bytes, since TFDS would round the numbers to 32 bits.
        measurements = {
            name: tfds.features.Tensor(shape=(), dtype=np.float64, encoding="bytes")
            for name in MEASUREMENTS
        }
        return self.make_info(
            {
                "image": tfds.features.Image(shape=SHAPE),
                "label": tfds.features.ClassLabel(names=CLASSES),
                **measurements,
            },
            description="Galaxies of the DESI Legacy Imaging Surveys, g, r and z "
            "bands, with votes of Galaxy Zoo; redshift is NaN where unknown.",
            homepage="https://doi.org/10.5281/zenodo.10845026",
            citation=_CITATION,
        )

    def _split_generators(self, dl_manager: DownloadManager) -> dict[str, Examples]:
        import_h5py()  # before the download of 2.7 GB
        (path,) = fetch(self, dl_manager).values()
        columns = read_columns(path)
        train, test = split_indices(columns["ans"], columns["ra"], columns["dec"])
        return {
            "train": self._generate_examples(path, columns, train),
            "test": self._generate_examples(path, columns, test),
        }

    def _generate_examples(
        self, path: Path, columns: dict[str, np.ndarray], indices: np.ndarray
    ) -> Examples:
        for i, image in read_images(path, indices):
            yield (
                i,
                {
                    "image": encode_png(image),
                    "label": int(columns["ans"][i]),
                    **{name: float(columns[name][i]) for name in MEASUREMENTS},
                },
            )


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Read all columns except the images: labels `ans`, and float64 measurements."""
    with _open(path) as file:
        columns = {"ans": _dataset(file, "ans")[:].astype(np.int64)}
        for name in MEASUREMENTS:
            columns[name] = _dataset(file, name)[:].astype(np.float64)
        images = _dataset(file, "images")
        shapes = {images.shape, *((len(c), *SHAPE) for c in columns.values())}
        if len(shapes) != 1 or images.dtype != np.uint8:
            raise UserError(f"{path} is damaged: its columns differ in length or type")
    return columns


def split_indices(
    labels: np.ndarray, ra: np.ndarray, dec: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the training and of the test images.

    Images of one point of the sky are in the same split.
    """
    _, points = np.unique(np.stack([ra, dec], 1), axis=0, return_inverse=True)
    test = subsets.group_holdout(labels, points.reshape(-1), TEST_FRACTION, SPLIT_SEED)
    return np.flatnonzero(~test), np.flatnonzero(test)


def read_images(path: Path, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield indices and images of the file, with only a part of it in memory."""
    wanted = np.sort(indices)
    with _open(path) as file:
        images = _dataset(file, "images")
        # Read each chunk once: a compressed chunk may hold parts of many images.
        rows = min(images.chunks[0] if images.chunks else MAX_ROWS, MAX_ROWS)
        for start in range(0, len(images), rows):
            here = wanted[(start <= wanted) & (wanted < start + rows)]
            if len(here):
                block = images[start : start + rows]
                for i in here:
                    yield int(i), block[i - start]


def import_h5py() -> ModuleType:
    """Import h5py, or raise a `UserError` that names the extra that installs it."""
    return import_extra("h5py", extra="galaxy10", purpose="galaxy10")


@contextlib.contextmanager
def _open(path: Path) -> Iterator["h5py.File"]:
    h5py = import_h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _dataset(file: "h5py.File", name: str) -> "h5py.Dataset":
    """Return a column, which must lie in the file itself: HDF5 can link other files."""
    h5py = import_h5py()
    inside = isinstance(file.get(name, getlink=True), h5py.HardLink)
    column = file[name] if inside else None
    if not isinstance(column, h5py.Dataset) or column.external or column.is_virtual:
        raise UserError(f"{file.filename} is damaged: it lacks {name}")
    return column
