"""Models by name. Listing them does not import jax; building one does."""

import dataclasses
import numbers
import typing

from hybrid_jax.models.choices import (
    CHOICES,
    check_choices,
    check_heads,
    check_torus,
    check_windows,
)
from hybrid_jax.models.registry import (
    MODELS,
    ViTRow,
    list_models,
    parse_stack,
    unknown_model,
)
from hybrid_jax.models.strides import (
    Size,
    as_size,
    check_strides,
    choose_patch,
    choose_strides,
    format_size,
)

if typing.TYPE_CHECKING:
    from hybrid_jax.models.hybrid import HybridNet
    from hybrid_jax.models.vit import ViT

__all__ = ["create_model", "list_models"]


def create_model(
    name: str,
    num_classes: int = 1000,
    image_size: int | tuple[int, int] = 224,
    **overrides: typing.Any,
) -> "HybridNet | ViT":
    """Create a network by its name in the table of models.

    Args:
      name: see `list_models`.
      num_classes: number of logits.
      image_size: in pixels, one side or `(height, width)`. It sets the size of bias
        tables and position embeddings, and the strides or patch size if those are not
        given.
      **overrides: other fields of `HybridNet` or `ViT`; `stack` may be a string such
        as `C-C-C-T`. A hybrid also takes the fields of its block config that `CHOICES`
        lists: `attention`, `padding`, `relative_bias` and `downsample`. Every model
        takes `kernels`, `xla` or `pallas`, which only some blocks have a use for.

    Returns:
      A Flax module: `model.init(key, images)`, `model.apply(variables, images)` with
      float images `[B, H, W, channels]`.

    Raises:
      ValueError: the name is unknown, `num_classes` or `image_size` is no whole number
        above 0, the image is too small for the strides, the stack, widths, depths and
        strides do not match, a stage is too narrow for attention, the blocks or the
        image do not allow a choice, or a rate or the dtype is impossible.
    """
    if name not in MODELS:
        raise ValueError(unknown_model(name))
    is_whole = isinstance(num_classes, typing.SupportsIndex)
    if not is_whole or isinstance(num_classes, bool) or num_classes < 1:
        raise ValueError(f"num_classes={num_classes!r}: give a whole number from 1")
    row = MODELS[name]
    fields = vars(row) | {"num_classes": num_classes, "image_size": as_size(image_size)}
    fields |= overrides
    _check_numbers(fields)
    del fields["timm"]
    chosen = {name: fields.pop(name) for name in CHOICES if name in fields}
    check_choices(row, chosen)
    if "kernels" in fields:
        chosen["kernels"] = fields.pop("kernels")
    fields["block_config"] = dataclasses.replace(fields["block_config"], **chosen)
    return (
        _create_vit(**fields) if isinstance(row, ViTRow) else _create_hybrid(**fields)
    )


def _check_numbers(fields: dict[str, typing.Any]) -> None:
    """Refuse impossible rates, and a dtype in which no network computes.

    Raises:
      ValueError: names the field.
    """
    import jax.numpy as jnp

    for name in ("drop_path", "dropout"):
        rate = fields.get(name, 0.0)
        if not (isinstance(rate, numbers.Real) and 0 <= float(rate) < 1):
            raise ValueError(f"{name}={rate!r}: give a rate from 0 to below 1")
    dtype = fields.get("dtype", jnp.float32)
    try:
        is_float = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        is_float = False
    if not is_float:
        raise ValueError(f"dtype={dtype!r}: give one of floats, such as bfloat16")


def _create_hybrid(
    stack: str | tuple[str, ...],
    image_size: Size,
    strides: tuple[int, ...] = (),
    **fields: typing.Any,
) -> "HybridNet":
    from hybrid_jax.models.hybrid import HybridNet

    stack = parse_stack(stack) if isinstance(stack, str) else stack
    stages = len(fields["widths"])
    strides = tuple(strides) or choose_strides(image_size, stages)
    if len(stack) != stages or len(strides) != 1 + stages:
        raise ValueError(
            f"stack {'-'.join(stack)} and strides {strides} do not fit {stages} stages:"
            f" give {stages} parts of a stack and {1 + stages} strides, stem first"
        )
    check_strides(image_size, strides)
    check_torus(fields["block_config"], image_size, strides)
    model = HybridNet(stack=stack, image_size=image_size, strides=strides, **fields)
    check_heads(model.plan, model.stem_widths[-1], model.block_config)
    check_windows(model.plan, fields["block_config"])
    return model


def _create_vit(image_size: Size, patch_size: int = 0, **fields: typing.Any) -> "ViT":
    from hybrid_jax.models.vit import ViT

    patch_size = patch_size or choose_patch(image_size)
    if not 0 < patch_size <= min(image_size):
        raise ValueError(
            f"patches of {patch_size} px do not fit an image of "
            f"{format_size(image_size)} px: give a patch_size from 1 to "
            f"{min(image_size)}"
        )
    return ViT(image_size=image_size, patch_size=patch_size, **fields)
