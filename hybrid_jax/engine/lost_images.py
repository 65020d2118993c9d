"""Refuse access to images that a run no longer has."""

from hybrid_jax.config.data_fields import IN_MEMORY
from hybrid_jax.data import Splits
from hybrid_jax.errors import UserError


def no_splits() -> Splits:
    """Refuse to hand out splits, for a run that was saved without its images.

    Raises:
      UserError: always.
    """
    raise UserError(
        "the images of this run were not saved: evaluate it on images and labels"
    )


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
