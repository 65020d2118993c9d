"""Package metadata; build system and tools are configured in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "hybrid_jax" / "__init__.py").read_text()
).group(1)

setup(
    name="hybrid_jax",
    version=VERSION,
    description="Image classifiers that mix convolutions and attention, from scratch "
    "on small data sets: Astroformer, CoAtNet and others in JAX and Flax",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["hybrid_jax", "hybrid_jax.*"]),
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "array_record>=0.7",  # the records of TFDS, without TensorFlow
        "clu>=0.0.12",
        "etils[epath]",  # this and tensorstore are orbax's too
        "filelock",  # one run a workdir; jax bounds its compilation cache with it
        "flax>=0.12",
        "grain>=0.2.18",  # streams of images
        "h5py",  # Galaxy10
        "jax>=0.10",
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
        "scikit-learn",  # the digits, and stratified splits
        "scipy",  # blurs thumbnails of near duplicates
        "tensorboardX",  # event files without TensorFlow
        "tensorflow-datasets>=4.9.9",
        "tensorstore",
    ],
    extras_require={
        "gpu": ["jax[cuda12]"],
        "tpu": ["jax[tpu]"],
        "test": [
            "hypothesis",
            "ipykernel",  # this and the next two run launch/colab.ipynb
            "matplotlib",
            "nbclient",
            "pytest",
            "pytest-xdist",
            "ruff",
            "tensorboard",
        ],
        "torch": ["torch", "timm"],  # the oracle of the parity tests
    },
    entry_points={"console_scripts": ["hybrid-jax = hybrid_jax.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
