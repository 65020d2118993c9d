"""Random erasing: boxes of random levels."""

import math

import jax
import jax.numpy as jnp
from jax import random

AREAS = (0.02, 1 / 3)  # shares of the image
ASPECTS = (0.3, 3.3)  # height / width of a box


def erase(key: jax.Array, images: jax.Array, probability: float) -> jax.Array:
    """Fill a box of some images with random levels (Zhong et al. 2020).

    A box that is longer than the image is clipped to it; the authors draw it again.

    Args:
      key: random key.
      images: float `[B, H, W, C]`.
      probability: share of the images that get a box.

    Returns:
      `[B, H, W, C]`.
    """
    batch, height, width, _ = images.shape
    image_key, area_key, aspect_key, corner_key, level_key = random.split(key, 5)
    is_erased = random.bernoulli(image_key, probability, (batch, 1))
    area = random.uniform(area_key, (batch,), minval=AREAS[0], maxval=AREAS[1])
    least, most = map(math.log, ASPECTS)
    aspect = jnp.exp(random.uniform(aspect_key, (batch,), minval=least, maxval=most))
    area = area * height * width
    sides = jnp.round(jnp.sqrt(jnp.stack([area * aspect, area / aspect], -1)))
    room = jnp.maximum(jnp.float32([height, width]) - sides, 0)
    corners = jnp.floor(random.uniform(corner_key, (batch, 2)) * (room + 1))

    def is_inside(axis: int, length: int) -> jax.Array:
        offset = jnp.arange(length) - corners[:, axis, None]
        return (offset >= 0) & (offset < sides[:, axis, None]) & is_erased

    box = is_inside(0, height)[:, :, None] & is_inside(1, width)[:, None]
    # Draw four levels per 32-bit word: `bits` of uint8 takes five times as long.
    words = random.bits(level_key, (-(-images.size // 4),), jnp.uint32)
    levels = jax.lax.bitcast_convert_type(words, jnp.uint8).ravel()[: images.size]
    levels = levels.reshape(images.shape).astype(images.dtype)
    return jnp.where(box[..., None], levels, images)
