"""Mixup and cutmix: images mixed in pairs, and their labels in the same shares."""

import jax
import jax.numpy as jnp
from jax import random


def mix(
    key: jax.Array,
    images: jax.Array,
    targets: jax.Array,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[jax.Array, jax.Array]:
    """Apply mixup (Zhang et al. 2018), cutmix (Yun et al. 2019), or one at random.

    Each image is mixed with the one at the mirrored index of the batch, whose order is
    random already. Both methods use one formula, `w * x + (1 - w) * x'`: `w` is
    constant over the image, or zero inside a box. The target's share is the exact mean
    of `w`.

    Args:
      key: random key.
      images: `[B, H, W, C]`.
      targets: class probabilities `[B, classes]`.
      mixup_alpha, cutmix_alpha: parameter of the Beta distribution of shares; 0 is off.

    Returns:
      Images and targets of the same shapes.
    """
    batch, height, width, _ = images.shape
    share_key, box_key, method_key = random.split(key, 3)
    chance = 0.5 if mixup_alpha and cutmix_alpha else float(cutmix_alpha > 0)
    use_box = random.bernoulli(method_key, chance, (batch,))
    alpha = jnp.where(use_box, cutmix_alpha, mixup_alpha)
    share = _symmetric_beta(share_key, alpha)
    weights = jnp.broadcast_to(share[:, None, None], (batch, height, width))
    if cutmix_alpha:
        outside = _outside_box(box_key, share, height, width)
        weights = jnp.where(use_box[:, None, None], outside, weights)
    share = weights.mean((1, 2))[:, None]
    weights = weights[..., None]
    return (
        weights * images + (1 - weights) * images[::-1],
        share * targets + (1 - share) * targets[::-1],
    )


def _symmetric_beta(key: jax.Array, alpha: jax.Array) -> jax.Array:
    """Return `random.beta(key, alpha, alpha)`, `[B]`, like `alpha`.

    Its two draws of gamma variates are one, so XLA compiles their loops once.
    """
    a, b = jax.vmap(lambda key: random.loggamma(key, alpha))(random.split(key))
    return jax.nn.sigmoid(a - b)


def _outside_box(
    key: jax.Array, share: jax.Array, height: int, width: int
) -> jax.Array:
    """Return `[B, H, W]`: 0 inside a random box of area `1 - share`, else 1."""
    side = jnp.sqrt(1 - share)[:, None]

    def is_outside(key: jax.Array, length: int) -> jax.Array:
        center = random.uniform(key, side.shape, maxval=length)
        distance = jnp.abs(jnp.arange(length) + 0.5 - center)
        return distance > side * length / 2

    y_key, x_key = random.split(key)
    rows, columns = is_outside(y_key, height), is_outside(x_key, width)
    return (rows[:, :, None] | columns[:, None, :]).astype(jnp.float32)
