"""Load the test split that a run was told to leave unread (`data.test=False`)."""

import numpy as np

from hybrid_jax import data
from hybrid_jax.config.schema import Config
from hybrid_jax.data import Splits
from hybrid_jax.errors import UserError
from hybrid_jax.runs.lost_images import load_again, refuse_in_memory


def with_test_split(splits: Splits, config: Config) -> Splits:
    """Return the splits of a run, and the test split if the run left one unread.

    Args:
      splits: the run's splits.
      config: the run's config.

    Raises:
      UserError: the images cannot be loaded, or are no longer those of the run.
    """
    if "test" in splits or config.data.test:
        return splits
    refuse_in_memory(config.data.name, "evaluate it on images and labels")
    everything = load_again(config.replace({"data.test": True}).data)
    if not all(_are_same(everything[name], splits[name]) for name in splits):
        raise UserError(
            f"the images of {config.data.title} changed meanwhile, so that some test "
            "images may have been trained on: restore them"
        )
    return everything


def _are_same(first: data.Split, second: data.Split) -> bool:
    return np.array_equal(first.labels, second.labels)
