"""Small experiments on the real digits, whose programs tests share."""

from ml_collections import ConfigDict

from hybrid_jax.config.files import load_config
from tests.small_hybrid import CONFIG

SMALL = {
    "data.per_class": 20,
    "train.epochs": 3,
    "train.batch_size": 32,
    "train.eval_every": 1,
}
STEPS = (6, 12, 17)  # behind which it is evaluated: 180 images, three epochs


def small(**fields) -> ConfigDict:
    """The config of `small_hybrid.py` on 20 images a class, two of them validation.

    Args:
      **fields: that have other values, by name with `__` for dots.
    """
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    return load_config(str(CONFIG), SMALL | changed)


def flags(**fields) -> list[str]:
    """The command line of `small`, without the program."""
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    values = (SMALL | changed).items()
    return [
        f"--config={CONFIG}",
        *(f"--config.{name}={value}" for name, value in values),
    ]
