"""Package metadata; build system and tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "hybrid_jax" / "__init__.py").read_text()
).group(1)


class BuildWithConfigs(build_py):
    """Ship the experiments of `configs/` in the wheel, as `hybrid_jax/configs/`.

    An editable install reads them from the checkout.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in self._configs():
                target = Path(self.build_lib, "hybrid_jax", name)
                self.mkpath(str(target.parent))
                self.copy_file(name, str(target))

    def get_source_files(self) -> list[str]:
        """Return what a source distribution holds."""
        return [*super().get_source_files(), *self._configs()]

    @staticmethod
    def _configs() -> list[str]:
        return sorted(str(path) for path in Path("configs").rglob("*.py"))


setup(
    name="hybrid_jax",
    version=VERSION,
    description="Image classifiers that mix convolutions and attention, from scratch "
    "on small data sets: Astroformer, CoAtNet and others in JAX and Flax",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["hybrid_jax", "hybrid_jax.*"]),
    package_data={"hybrid_jax": ["py.typed", "reports/*.j2", "reports/*.css"]},
    cmdclass={"build_py": BuildWithConfigs},
    python_requires=">=3.11",
    # What we import ourselves is named here, even where another package brings it.
    install_requires=[
        "absl-py",
        "array_record",  # counts the records that TFDS reads
        "clu>=0.0.12",
        "etils[epath]",
        "filelock",  # one run a workdir; jax bounds its compilation cache with it
        "flatbuffers",  # jax.export writes programs with it
        "flax>=0.12",
        "grain>=0.2.18",  # streams of images; brings array_record, which TFDS reads
        "jax>=0.10",
        "jinja2",  # pages about runs
        "matplotlib",
        "ml_collections>=1.1",
        "numpy",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "pillow",
        "platformdirs",
        "psutil",  # how much memory there is
        "requests",
        "rich",
        "safetensors>=0.5",
        "scikit-learn",  # the digits, and splits by group
        "scipy",
        "tensorboardX",  # event files without TensorFlow
        "tensorflow-datasets>=4.9.9",
        "tensorstore",
    ],
    extras_require={
        "gpu": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        "galaxy10": ["h5py"],
        "labels": ["cleanlab>=2.9"],  # labels to check
        "torch": ["torch"],  # weights in .pth files
        "timm": ["timm", "torch"],  # the oracle of the parity tests
        # jax2onnx needs an orbax-checkpoint older than the newest, which we read too.
        "onnx": ["jax2onnx>=0.17.1", "onnx", "onnxruntime"],
        # Searches; psycopg is for workers on several machines.
        "sweep": ["optuna>=4.5", "psycopg[binary]>=3.1", "sqlalchemy"],
        "hub": ["huggingface_hub>=2"],  # Classifier.from_pretrained("user/name")
        "docs": ["furo", "myst-parser", "sphinx>=8"],  # the site of docs/
        "test": [
            "h5py",
            "huggingface_hub>=2",
            "hypothesis",
            "ipykernel",  # this and the next two run launch/colab.ipynb
            "markdown-it-py",  # finds the blocks of documents, to run them
            "mypy",
            "nbclient",
            "optuna>=4.5",
            "psycopg[binary]>=3.1",
            "pytest",
            "pytest-xdist",
            "ruff",
            "setuptools>=68",  # builds what a test looks into
            "sqlalchemy",
            "tensorboard",
        ],
    },
    entry_points={"console_scripts": ["hybrid-jax = hybrid_jax.main:main"]},
    classifiers=[
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
