"""TFDS builders that need no TensorFlow, one file per data set.

TFDS's builders of these sets call TensorFlow to encode images. These builders yield
encoded images, which TFDS writes as they are. They are not registered with TFDS, whose
builders of the same names stay reachable.

To add a data set `my_set`, add a file `my_set.py` with a builder class `MySet`.
"""

import importlib
import pkgutil
import typing

if typing.TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Data sets in a file of another name, and files that are no data sets.
FILES = {"cifar10": "cifar", "cifar100": "cifar"}
HELPERS = {"archives", "base", "cifar"}


def builder_names() -> list[str]:
    """List the data sets that have a builder here, without importing a builder."""
    files = {module.name for module in pkgutil.iter_modules(__path__)}
    return sorted(files - HELPERS | FILES.keys())


def builder_class(name: str) -> "type[tfds.core.GeneratorBasedBuilder]":
    """Import the builder class of a data set that `builder_names` lists."""
    module = importlib.import_module(f"{__name__}.{FILES.get(name, name)}")
    return getattr(module, "".join(word.capitalize() for word in name.split("_")))
