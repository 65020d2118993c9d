"""Random erasing."""

import math

import jax
import jax.numpy as jnp
from jax import random

AREAS = (0.02, 1 / 3)  # shares of the image
ASPECTS = (0.3, 3.3)


def erase(key: jax.Array, images: jax.Array, probability: float) -> jax.Array:
    """Fills a box of some images with random levels (Zhong et al. 2020).

    A box that is longer than the image is cut to it, where the authors draw again.

    Args:
      key: of the draws.
      images: float `[B, H, W, C]`.
      probability: share of the images that lose a box.

    Returns:
      `[B, H, W, C]`.
    """
    batch, height, width, _ = images.shape
    choice_key, area_key, aspect_key, corner_key, level_key = random.split(key, 5)
    chosen = random.bernoulli(choice_key, probability, (batch, 1))
    area = random.uniform(area_key, (batch,), minval=AREAS[0], maxval=AREAS[1])
    least, most = map(math.log, ASPECTS)
    aspect = jnp.exp(random.uniform(aspect_key, (batch,), minval=least, maxval=most))
    area = area * height * width
    sides = jnp.round(jnp.sqrt(jnp.stack([area * aspect, area / aspect], -1)))
    room = jnp.maximum(jnp.float32([height, width]) - sides, 0)
    corners = jnp.floor(random.uniform(corner_key, (batch, 2)) * (room + 1))

    def covered(axis, length):
        place = jnp.arange(length) - corners[:, axis, None]
        return (place >= 0) & (place < sides[:, axis, None]) & chosen

    box = covered(0, height)[:, :, None] & covered(1, width)[:, None]
    # Whole words, four levels each: `bits` of uint8 takes five times as long.
    words = random.bits(level_key, (-(-images.size // 4),), jnp.uint32)
    levels = jax.lax.bitcast_convert_type(words, jnp.uint8).ravel()[: images.size]
    levels = levels.reshape(images.shape).astype(images.dtype)
    return jnp.where(box[..., None], levels, images)
