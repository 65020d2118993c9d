"""Augmentation of a whole batch on the device, inside the jitted step.

No Python runs per image, and the same key gives the same batch. Every operation maps
float images `[B, H, W, C]`, levels 0 to 255, to the same; new ones join `augment`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import random


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to a training batch; zeros leave it as it is.

    Attributes:
      crop_padding: black pixels around the image before a crop of its own size.
      flip: whether half of the images are mirrored left to right.
      mixup, cutmix: alpha of the Beta distribution that mixing weights come from.
    """

    crop_padding: int = 0
    flip: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0


def augment(
    key: jax.Array, images: jax.Array, targets: jax.Array, how: Augmentation
) -> tuple[jax.Array, jax.Array]:
    """One augmented batch.

    Args:
      key: of this step.
      images: float `[B, H, W, C]`.
      targets: class probabilities `[B, classes]`.
      how: the settings.

    Returns:
      Images and targets of the same shapes.
    """
    crop_key, flip_key, mix_key = random.split(key, 3)
    if how.crop_padding:
        images = random_crop(crop_key, images, how.crop_padding)
    if how.flip:
        images = random_flip(flip_key, images)
    if how.mixup or how.cutmix:
        images, targets = mix(mix_key, images, targets, how.mixup, how.cutmix)
    return images, targets


def to_float(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """uint8 `[B, h, w, C]` to float32 `[B, *size, C]`, bilinear where sizes differ."""
    images = images.astype(jnp.float32)
    if images.shape[1:3] != tuple(size):
        shape = (images.shape[0], *size, images.shape[-1])
        images = jax.image.resize(images, shape, "bilinear")
    return images


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Each channel to mean 0 and deviation 1 of the training split."""
    return (images - mean) / std


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
    """Each image shifted by up to `padding` pixels each way, black coming in."""
    batch, *shape = images.shape
    edges = (padding, padding)
    padded = jnp.pad(images, ((0, 0), edges, edges, (0, 0)))
    corners = random.randint(key, (batch, 2), 0, 2 * padding + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), shape)

    return jax.vmap(crop)(padded, corners)


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Half of the images, mirrored left to right."""
    flipped = random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def mix(
    key: jax.Array,
    images: jax.Array,
    targets: jax.Array,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[jax.Array, jax.Array]:
    """Mixup (Zhang et al. 2018), cutmix (Yun et al. 2019), or either by chance.

    Each image is mixed with its mirror in the batch, whose order is random already.
    Both are one formula, `w * x + (1 - w) * x'`, with `w` constant over the image or
    zero inside a box; the target's share is the mean of `w`, exactly.
    """
    batch, height, width, _ = images.shape
    mixup_key, cutmix_key, choice_key = random.split(key, 3)
    if mixup_alpha:
        share = random.beta(mixup_key, mixup_alpha, mixup_alpha, (batch, 1, 1))
        weights = jnp.broadcast_to(share, (batch, height, width))
    if cutmix_alpha:
        outside = _outside_box(cutmix_key, (batch, height, width), cutmix_alpha)
        if mixup_alpha:
            chosen = random.bernoulli(choice_key, 0.5, (batch, 1, 1))
            weights = jnp.where(chosen, outside, weights)
        else:
            weights = outside
    weights = weights[..., None]
    share = weights.mean((1, 2, 3))[:, None]
    return (
        weights * images + (1 - weights) * images[::-1],
        share * targets + (1 - share) * targets[::-1],
    )


def _outside_box(key: jax.Array, shape: tuple[int, int, int], alpha: float):
    """`[B, H, W]`: 0 inside a random box of area `1 - Beta(alpha, alpha)`, else 1."""
    batch, height, width = shape
    area_key, y_key, x_key = random.split(key, 3)
    side = jnp.sqrt(1 - random.beta(area_key, alpha, alpha, (batch, 1)))

    def outside(key, length):
        centre = random.uniform(key, (batch, 1), maxval=length)
        distance = jnp.abs(jnp.arange(length) + 0.5 - centre)
        return distance > side * length / 2

    rows, columns = outside(y_key, height), outside(x_key, width)
    return (rows[:, :, None] | columns[:, None, :]).astype(jnp.float32)
