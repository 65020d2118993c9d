"""The padding of a convolution, and the shifted slices of a map that it sums.

Padding is `symmetric` as in PyTorch or `same` as in TensorFlow, both with zeros, or
`circular`, with the pixels at the opposite edge, as on a torus. Each maps a length `L`
to `ceil(L / stride)`. With a stride, `same` pads less in front.
"""

import jax
import jax.numpy as jnp
from jax import lax


def tap_padding(length: int, size: int, stride: int, padding: str) -> tuple[int, int]:
    """Return the pixels of padding before and after an axis, for an odd kernel size."""
    if padding == "same":
        return lax.padtype_to_pads((length,), (size,), (stride,), "SAME")[0]
    return size // 2, size // 2


def pad_map(
    x: jax.Array, stride: int, size: int = 3, padding: str = "symmetric"
) -> jax.Array:
    """Pad `[B, H, W, C]` with what a convolution reads beyond the map.

    Raises:
      ValueError: the stride does not divide a side of a torus.
    """
    if padding == "circular" and any(side % stride for side in x.shape[1:3]):
        raise ValueError(
            f"a stride of {stride} does not divide a torus of {x.shape[1]}x{x.shape[2]}"
        )
    rows, columns = (tap_padding(n, size, stride, padding) for n in x.shape[1:3])
    mode = "wrap" if padding == "circular" else "constant"
    return jnp.pad(x, ((0, 0), rows, columns, (0, 0)), mode=mode)


def tap_slices(
    x: jax.Array, height: int, width: int, stride: int, size: int = 3
) -> list[jax.Array]:
    """Slice a padded map as each tap of a kernel reads it, row by row.

    Args:
      x: from `pad_map`.
      height, width: `H'` and `W'`, of the result of the convolution.
      stride: of the convolution.
      size: of its kernel.

    Returns:
      `size**2` arrays `[B, H', W', C]`.
    """
    # The last slice begins where the last output is centered.
    tall, wide = ((n - 1) * stride + 1 for n in (height, width))
    images, _, _, channels = x.shape
    return [
        lax.slice(
            x,
            (0, dy, dx, 0),
            (images, dy + tall, dx + wide, channels),
            (1, stride, stride, 1),
        )
        for dy in range(size)
        for dx in range(size)
    ]
