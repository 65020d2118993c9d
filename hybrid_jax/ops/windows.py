"""The nine shifted copies of a map that a 3x3 convolution sums."""

import jax
import jax.numpy as jnp


def windows(x: jax.Array, stride: int) -> list[jax.Array]:
    """`[B, H, W, C]` as each tap sees it, row by row: nine of `[B, H', W', C]`.

    One pixel of zeros surrounds the map; `H' = ceil(H / stride)`.
    """
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [
        padded[:, dy : dy + height : stride, dx : dx + width : stride]
        for dy in range(3)
        for dx in range(3)
    ]
