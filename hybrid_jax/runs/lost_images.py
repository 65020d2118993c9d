"""Refuse access to images that a run no longer has."""

import dataclasses

from hybrid_jax import data
from hybrid_jax.config.data_fields import IN_MEMORY
from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data import Splits
from hybrid_jax.data.lazy_images import UnreadableImages
from hybrid_jax.data.splitting import DEFAULT_TEST_FRACTION, UnusedTestFraction
from hybrid_jax.errors import UserError, escape


def no_splits() -> Splits:
    """Refuse to hand out splits, for a run that was saved without its images.

    Raises:
      UserError: always.
    """
    raise UserError(
        "the images of this run were not saved: evaluate it on images and labels"
    )


def load_again(config: DataConfig) -> Splits:
    """Load the data set of a run that has begun.

    Raises:
      UnreadableImages: some images can no longer be read. The others alone would be
        another data set than that of the run, so the way out is to restore them.
      UserError: the data set cannot be loaded.
    """
    if config.name == "folder" and config.path and not data.is_at_hand(config):
        raise UserError(
            f"config.data.path={escape(config.path)!r} does not exist: if the images "
            "of the run were moved, say where with --config.data.path"
        )
    try:
        return data.load(config)
    except UnusedTestFraction:  # older versions accepted it
        return load_again(
            dataclasses.replace(config, test_fraction=DEFAULT_TEST_FRACTION)
        )
    except UnreadableImages as error:
        raise error.with_way_out(
            "restore them, or list them in a file for config.data.exclude and train in "
            "another workdir"
        ) from None


def refuse_in_memory(data_name: str, way_out: str) -> None:
    """Refuse a run whose images were arrays in memory, which were not saved.

    Args:
      data_name: `config.data.name` of the run.
      way_out: what the user can do, for the error message.

    Raises:
      UserError: the images were arrays in memory.
    """
    if data_name == IN_MEMORY:
        raise UserError(f"the images of this run were handed over in memory: {way_out}")
