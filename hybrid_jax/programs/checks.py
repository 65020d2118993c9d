"""Refuse fields of a config that the data or the network make useless."""

import jax

from hybrid_jax.config.schema import AugmentConfig, Config
from hybrid_jax.errors import UserError
from hybrid_jax.models.strides import format_size
from hybrid_jax.training.freezing import frozen_mask


def check_crop(augment: AugmentConfig, size: tuple[int, int]) -> None:
    """Refuse a random crop of nothing but what lies outside of an image.

    Args:
      augment: the augmentation.
      size: height and width of the stored images, or of the largest.

    Raises:
      UserError: names the field.
    """
    if augment.crop_padding >= min(size) and augment.fill != "reflect":
        raise UserError(
            f"config.augment.crop_padding={augment.crop_padding} moves images of "
            f"{format_size(size)} px out of sight: give less than {min(size)}"
        )


def check_augmentation(config: Config, channels: int) -> None:
    """Refuse augmentation that changes no image of this data set.

    Raises:
      UserError: names the field.
    """
    augment = config.augment
    if augment.hue_jitter and channels == 1:
        raise UserError(
            f"config.augment.hue_jitter={augment.hue_jitter} changes no gray image: "
            "leave it out"
        )
    mixing = {"mixup": augment.mixup, "cutmix": augment.cutmix}
    for name, value in mixing.items():
        if value and config.train.batch_size == 1:
            raise UserError(
                f"config.augment.{name}={value} mixes the images of a batch, and "
                "config.train.batch_size=1: give 0, or a larger batch"
            )


def check_frozen(freeze: tuple[str, ...], params: dict) -> None:
    """Refuse patterns that freeze nothing, or leave nothing to train.

    Raises:
      UserError: names the pattern and the parts of the network, or all patterns.
    """
    for pattern in freeze:
        if not any(jax.tree.leaves(frozen_mask(params, (pattern,)))):
            raise UserError(
                f"config.freeze: no parameter path contains {pattern!r}; paths begin "
                f"with {', '.join(params)}"
            )
    if all(jax.tree.leaves(frozen_mask(params, freeze))):
        raise UserError(f"config.freeze={freeze} leaves no parameter to train")
