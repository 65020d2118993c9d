"""Color jitter: random brightness, contrast, saturation and hue."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax, random

from hybrid_jax.augment import color


def color_jitter(
    key: jax.Array, images: jax.Array, strength: float, hue: float
) -> jax.Array:
    """Change colors like torchvision's `ColorJitter`.

    Factors are drawn for each image. The order of the operations is drawn once for the
    batch, so that each operation runs once.

    Args:
      key: random key.
      images: levels `[B, H, W, C]`, which are rounded first.
      strength: factors are uniform in `1 - strength` (not below 0) to `1 + strength`.
      hue: largest shift of the hue, either way, as a share of the color circle.

    Returns:
      `[B, H, W, C]`.
    """
    factor_key, hue_key, order_key = random.split(key, 3)
    operations: list[Callable[[jax.Array, jax.Array], jax.Array]] = []
    amounts: list[jax.Array] = []
    batch, images = len(images), jnp.round(images)
    if strength:
        operations += [color.brightness, color.contrast, color.saturation]
        least, most = max(0.0, 1 - strength), 1 + strength
        amounts += [*random.uniform(factor_key, (3, batch), minval=least, maxval=most)]
    if hue:
        operations.append(color.hue)
        amounts.append(random.uniform(hue_key, (batch,), minval=-hue, maxval=hue))
    order, stacked = random.permutation(order_key, len(operations)), jnp.stack(amounts)

    def apply(i: jax.Array, images: jax.Array) -> jax.Array:
        return lax.switch(order[i], operations, images, stacked[order[i]])

    return lax.fori_loop(0, len(operations), apply, images)
