"""Models by name. Listing them does not import jax; building one does."""

import dataclasses
import typing
from collections.abc import Mapping

from hybrid_jax.errors import closest
from hybrid_jax.models.choices import (
    CHOICES,
    check_choices,
    check_heads,
    check_torus,
    check_windows,
)
from hybrid_jax.models.field_checks import checked
from hybrid_jax.models.registry import (
    MODELS,
    ViTRow,
    list_models,
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
      ValueError: the name is unknown, a field has an impossible value, the image is too
        small for the strides, the stack, widths, depths and strides do not match, a
        stage is too narrow for attention, or the blocks or the image do not allow a
        choice.
    """
    if name not in MODELS:
        raise ValueError(unknown_model(name))
    row = MODELS[name]
    fields = vars(row) | {"num_classes": num_classes, "image_size": as_size(image_size)}
    fields = checked(fields | overrides)
    del fields["timm"]
    chosen = {name: fields.pop(name) for name in CHOICES if name in fields}
    check_choices(row, chosen)
    if "kernels" in fields:
        chosen["kernels"] = fields.pop("kernels")
    fields["block_config"] = dataclasses.replace(fields["block_config"], **chosen)
    return (
        _create_vit(**fields) if isinstance(row, ViTRow) else _create_hybrid(**fields)
    )


def _check_fields(network: type, fields: Mapping[str, typing.Any]) -> None:
    """Refuse fields that a network does not have.

    Raises:
      ValueError: names the field, and similar ones.
    """
    own = {"parent", "name"}  # of every Flax module
    known = {field.name for field in dataclasses.fields(network)} - own
    for name in fields:
        if name not in known | own:
            raise ValueError(
                f"{name} is no field of {network.__name__}{closest(name, known)}: give "
                f"some of {', '.join(sorted(known))}"
            )


def _create_hybrid(
    stack: tuple[str, ...],
    image_size: Size,
    strides: tuple[int, ...] = (),
    **fields: typing.Any,
) -> "HybridNet":
    from hybrid_jax.models.hybrid import HybridNet

    stages, depths = len(fields["widths"]), fields["depths"]
    strides = strides or choose_strides(image_size, stages)
    if not len(stack) == len(depths) == len(strides) - 1 == stages:
        raise ValueError(
            f"stack {'-'.join(stack)}, depths {depths} and strides {strides} do not "
            f"fit {stages} stages of widths {fields['widths']}: give {stages} parts of "
            f"a stack, {stages} depths and {1 + stages} strides, stem first"
        )
    check_strides(image_size, strides)
    _check_fields(HybridNet, fields)
    check_torus(fields["block_config"], image_size, strides)
    model = HybridNet(stack=stack, image_size=image_size, strides=strides, **fields)
    check_heads(model.plan, model.stem_widths[-1], model.block_config)
    check_windows(model.plan, fields["block_config"])
    return model


def _create_vit(image_size: Size, patch_size: int = 0, **fields: typing.Any) -> "ViT":
    from hybrid_jax.models.vit import ViT

    _check_fields(ViT, fields)
    patch_size = patch_size or choose_patch(image_size)
    if not 0 < patch_size <= min(image_size):
        raise ValueError(
            f"patches of {patch_size} px do not fit an image of "
            f"{format_size(image_size)} px: give a patch_size from 1 to "
            f"{min(image_size)}"
        )
    width, head = fields["width"], fields["block_config"].head_dim
    if width % head:
        raise ValueError(f"width={width}: give a multiple of {head}, a head's channels")
    return ViT(image_size=image_size, patch_size=patch_size, **fields)
