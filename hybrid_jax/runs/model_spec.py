"""The network that a run's `model.json`, or a file of weights, describes."""

from typing import Any

import jax.numpy as jnp

from hybrid_jax.errors import UserError
from hybrid_jax.models import create_model
from hybrid_jax.weights.timm_models import Model


def model_from_spec(
    spec: dict[str, Any],
    where: object,
    dtype: str = "float32",
    way_out: str = "restore it, or update hybrid_jax",
) -> Model:
    """Return a network.

    Args:
      spec: arguments of `create_model`, and `channels` of the images.
      where: the file or the flag that describes the network, for errors.
      dtype: number type of its computations.
      way_out: what the user can do about the file or the flag.

    Raises:
      UserError: no model has such arguments.
    """
    fields = {name: value for name, value in spec.items() if name != "channels"}
    try:
        return create_model(**fields, dtype=jnp.dtype(dtype))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{where} describes no model of this program ({error}): {way_out}"
        ) from None
