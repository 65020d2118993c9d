"""Models by name. Listing them is free; building one imports jax."""

import dataclasses
import typing

from hybrid_jax.errors import closest
from hybrid_jax.models.geometry import (
    as_size,
    check_geometry,
    check_heads,
    choose_strides,
)
from hybrid_jax.models.table import MODELS, list_models, parse_stack

if typing.TYPE_CHECKING:
    from hybrid_jax.models.hybrid import HybridNet

__all__ = ["create_model", "list_models"]


def create_model(
    name: str,
    num_classes: int = 1000,
    image_size: int | tuple[int, int] = 224,
    **overrides,
) -> "HybridNet":
    """A network by its name in the table of models.

    Args:
      name: see `list_models`.
      num_classes: number of logits.
      image_size: pixels, one side or `(height, width)`; decides the strides unless
        `strides` is given, and the size of the bias tables.
      **overrides: other fields of `HybridNet`; `stack` also as a string.

    Returns:
      A Flax module: `model.init(key, images)`, `model.apply(variables, images)` with
      float images `[B, H, W, channels]`.

    Raises:
      ValueError: unknown name, an image that the strides cannot serve, or a stage
        that is too narrow for attention.
    """
    from hybrid_jax.models.hybrid import HybridNet

    if name not in MODELS:
        raise ValueError(
            f"no model {name!r}{closest(name, MODELS)}; valid: {', '.join(MODELS)}"
        )
    fields = dataclasses.asdict(MODELS[name]) | overrides
    if isinstance(fields["stack"], str):
        fields["stack"] = parse_stack(fields["stack"])

    image_size = as_size(image_size)
    strides = fields.pop("strides", ()) or choose_strides(
        image_size, len(fields["stack"])
    )
    check_geometry(image_size, strides)
    check_heads(fields["stack"], fields["widths"])
    return HybridNet(num_classes=num_classes, strides=tuple(strides), **fields)
