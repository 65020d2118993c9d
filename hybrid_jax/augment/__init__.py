"""Augmentation of a whole batch on the device, inside the jitted step.

No Python runs per image, and the same key gives the same batch. Every stage maps float
images `[B, H, W, C]`, levels 0 to 255 and `C` 1 or 3, to the same:

    geometry    crop, symmetry, resize and the policy's shifts and turns, in one warp
    policy      the colour operations of RandAugment or TrivialAugment
    jitter      brightness, contrast, saturation and hue
    erasing     a box of random levels
    mixing      mixup and cutmix

A stage that is not asked for costs nothing.
"""

import jax
import jax.numpy as jnp
from jax import random

from hybrid_jax.augment.affine import fitted, place
from hybrid_jax.augment.auto_augment import draw_steps, matrices_of, recolour
from hybrid_jax.augment.color_jitter import jitter
from hybrid_jax.augment.mixup_cutmix import mix
from hybrid_jax.augment.random_erasing import erase
from hybrid_jax.config.schema import AugmentConfig


def augment(
    key: jax.Array,
    images: jax.Array,
    targets: jax.Array,
    how: AugmentConfig,
    size: tuple[int, int],
    extents: jax.Array | None = None,
    fit: str = "crop",
) -> tuple[jax.Array, jax.Array]:
    """One augmented batch.

    Args:
      key: of this step.
      images: uint8 `[B, h, w, C]`, `C` 1 or 3.
      targets: class probabilities `[B, classes]`.
      how: the settings.
      size: `(H, W)` to resize to.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
      fit: row of `geometry.WINDOWS`, for images with extents.

    Returns:
      Images, float32 `[B, H, W, C]` in levels 0 to 255, and targets `[B, classes]`.
    """
    keys = random.split(key, 5)
    colours, moves = how.color_jitter > 0 or how.hue_jitter > 0, ()
    if how.policy != "none":
        steps = draw_steps(
            keys[0], len(images), how.policy, how.operations, how.magnitude
        )
        moves = matrices_of(steps, how.policy, size)
    images = place(
        keys[1],
        images,
        size,
        padding=how.crop_padding,
        scale=how.crop_scale,
        symmetry=how.symmetry,
        moves=moves,
        extents=extents,
        fit=fit,
    )
    if colours or how.policy != "none":
        images = jnp.round(images)  # colour operations are those of 8-bit images
    if how.policy != "none":
        images = recolour(images, steps, how.policy)
    if colours:
        images = jitter(keys[2], images, how.color_jitter, how.hue_jitter)
    if how.erasing:
        images = erase(keys[3], images, how.erasing)
    if how.mixup or how.cutmix:
        images, targets = mix(keys[4], images, targets, how.mixup, how.cutmix)
    return images, targets


def to_float(
    images: jax.Array,
    size: tuple[int, int],
    extents: jax.Array | None = None,
    fit: str = "crop",
) -> jax.Array:
    """What the network sees of images that are not augmented, bilinear.

    Args:
      images: uint8 `[B, h, w, C]`.
      size: `(H, W)` of the result.
      extents: `[B, 2]`, height and width that each image fills; None if all do.
      fit: row of `geometry.WINDOWS`, for images with extents.

    Returns:
      float32 `[B, H, W, C]`.
    """
    if extents is not None:
        return fitted(images, extents, size, fit)
    images = images.astype(jnp.float32)
    if images.shape[1:3] != tuple(size):
        shape = (images.shape[0], *size, images.shape[-1])
        images = jax.image.resize(images, shape, "bilinear", precision="highest")
    return images


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Each channel to mean 0 and deviation 1 of the training split."""
    return (images - mean) / std
