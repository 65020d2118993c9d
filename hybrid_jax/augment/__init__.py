"""Augmentation of a whole batch on the device, inside the jitted step.

No Python runs per image, and one key always gives one result. The warp comes first: it
crops, flips, rotates and resizes images, and applies the policy's geometric operations.
The rows of `STAGES` follow in their order.

To add an augmentation, write its function in a file here, give it a field in
`AugmentConfig`, and add a row to `STAGES` where it is to happen: colors, then erasing,
then mixing. A stage that is off costs nothing.

Shapes: `B` images of height `H`, width `W` and `C` channels, 1 or 3.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import random

from hybrid_jax.augment import auto_augment
from hybrid_jax.augment.affine import resize_to_fit, warp
from hybrid_jax.augment.color_jitter import color_jitter
from hybrid_jax.augment.mixup_cutmix import mix
from hybrid_jax.augment.random_erasing import erase
from hybrid_jax.config.schema import AugmentConfig


class Stage(NamedTuple):
    """One augmentation stage, a row of `STAGES`.

    Attributes:
      name: determines the random key of the stage.
      applies: whether a config turns the stage on.
      apply: maps a key, images float32 `[B, H, W, C]` in levels 0 to 255, class
        probabilities `[B, classes]` and the config to new images and probabilities.
        Levels are fractional after the warp; the operations of `color` take whole
        levels.
    """

    name: str
    applies: Callable[[AugmentConfig], bool]
    apply: Callable[
        [jax.Array, jax.Array, jax.Array, AugmentConfig], tuple[jax.Array, jax.Array]
    ]


def _apply_policy(
    key: jax.Array, images: jax.Array, targets: jax.Array, config: AugmentConfig
) -> tuple[jax.Array, jax.Array]:
    draws = auto_augment.draw_operations(key, len(images), config)
    images = jnp.round(images)  # color operations are defined on 8-bit levels
    return auto_augment.apply_color_operations(images, draws, config.policy), targets


STAGES: list[Stage] = [
    Stage(
        name="policy",
        applies=lambda config: config.policy != "none",
        apply=_apply_policy,
    ),
    Stage(
        name="color_jitter",
        applies=lambda config: config.color_jitter > 0 or config.hue_jitter > 0,
        apply=lambda key, images, targets, config: (
            color_jitter(key, images, config.color_jitter, config.hue_jitter),
            targets,
        ),
    ),
    Stage(
        name="random_erasing",
        applies=lambda config: config.erasing > 0,
        apply=lambda key, images, targets, config: (
            erase(key, images, config.erasing),
            targets,
        ),
    ),
    Stage(
        name="mixup_cutmix",
        applies=lambda config: config.mixup > 0 or config.cutmix > 0,
        apply=lambda key, images, targets, config: mix(
            key, images, targets, config.mixup, config.cutmix
        ),
    ),
]
# Stages whose keys are split off by position, so that older runs resume with the same
# draws. A new stage derives its key from its name, and is not added here.
SPLIT_KEYS = ("policy", "warp", "color_jitter", "random_erasing", "mixup_cutmix")


def augment(
    key: jax.Array,
    images: jax.Array,
    targets: jax.Array,
    config: AugmentConfig,
    size: tuple[int, int],
    extents: jax.Array | None = None,
    fit: str = "crop",
) -> tuple[jax.Array, jax.Array]:
    """Augment one batch.

    Args:
      key: random key of this step.
      images: uint8 `[B, h, w, C]`.
      targets: class probabilities `[B, classes]`.
      config: which augmentations to apply.
      size: `(H, W)` to resize to.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
      fit: row of `affine.CROP_BOXES`, for images with extents.

    Returns:
      Images, float32 `[B, H, W, C]` in levels 0 to 255, and targets `[B, classes]`.
    """
    keys = dict(zip(SPLIT_KEYS, random.split(key, len(SPLIT_KEYS)), strict=True))
    matrices: jax.Array | tuple[()] = ()
    if config.policy != "none":
        draws = auto_augment.draw_operations(keys["policy"], len(images), config)
        matrices = auto_augment.affine_matrices(draws, config.policy, size)
    images = warp(
        keys["warp"],
        images,
        size,
        padding=config.crop_padding,
        scale=config.crop_scale,
        symmetry=config.symmetry,
        matrices=matrices,
        extents=extents,
        fit=fit,
        fill=config.fill,
    )
    for stage in STAGES:
        if stage.applies(config):
            stage_key = keys.get(stage.name)
            if stage_key is None:
                stage_key = random.fold_in(key, zlib.crc32(stage.name.encode()))
            images, targets = stage.apply(stage_key, images, targets, config)
    return images, targets


def to_float(
    images: jax.Array,
    size: tuple[int, int],
    extents: jax.Array | None = None,
    fit: str = "crop",
) -> jax.Array:
    """Resize images bilinearly, without augmentation, as evaluation sees them.

    Args:
      images: uint8 `[B, h, w, C]`.
      size: `(H, W)` of the result.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
      fit: row of `affine.CROP_BOXES`, for images with extents.

    Returns:
      float32 `[B, H, W, C]`.
    """
    if extents is not None:
        return resize_to_fit(images, extents, size, fit)
    images = images.astype(jnp.float32)
    if images.shape[1:3] != tuple(size):
        shape = (images.shape[0], *size, images.shape[-1])
        images = jax.image.resize(images, shape, "bilinear", precision="highest")
    return images


def normalize(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Subtract the mean of each channel, and divide by its standard deviation.

    Args:
      images: float `[B, H, W, C]`.
      mean, std: `[C]`, in the levels of the images.
    """
    return (images - mean) / std
