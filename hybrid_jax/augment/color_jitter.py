"""Colour jitter: random brightness, contrast, saturation and hue."""

import jax
import jax.numpy as jnp
from jax import lax, random

from hybrid_jax.augment import color


def jitter(
    key: jax.Array, images: jax.Array, strength: float, turn: float
) -> jax.Array:
    """Colours changed as by torchvision's `ColorJitter`.

    The factors are drawn for each image, the order of the operations once for the
    batch, so that each of them runs once.

    Args:
      key: of the draws.
      images: whole levels `[B, H, W, C]`.
      strength: factors are uniform in `1 - strength` (not below 0) to `1 + strength`.
      turn: hues turn by up to this share of the colour circle, either way.

    Returns:
      `[B, H, W, C]`.
    """
    factor_key, turn_key, order_key = random.split(key, 3)
    operations, amounts = [], []
    if strength:
        operations += [color.brightness, color.contrast, color.saturation]
        shape = (3, len(images))
        least, most = max(0.0, 1 - strength), 1 + strength
        amounts += [*random.uniform(factor_key, shape, minval=least, maxval=most)]
    if turn:
        operations.append(color.hue)
        shape = (len(images),)
        amounts.append(random.uniform(turn_key, shape, minval=-turn, maxval=turn))
    order, amounts = random.permutation(order_key, len(operations)), jnp.stack(amounts)

    def apply(i, images):
        return lax.switch(order[i], operations, images, amounts[order[i]])

    return lax.fori_loop(0, len(operations), apply, images)
