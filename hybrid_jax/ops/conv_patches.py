"""The shifted copies of a map that a convolution sums, and the margins they reach into.

Padding is `symmetric`, PyTorch's, or `same`, TensorFlow's. Either maps a length `L` to
`ceil(L / stride)`; under a stride `same` pads less in front.
"""

import jax
import jax.numpy as jnp


def margins(length: int, size: int, stride: int, padding: str) -> tuple[int, int]:
    """Zeros before and behind an axis of a map, for a kernel of an odd size."""
    if padding == "symmetric":
        return size // 2, size // 2
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def padded(
    x: jax.Array, stride: int, size: int = 3, padding: str = "symmetric"
) -> jax.Array:
    """`[B, H, W, C]` with the zeros around it that its windows reach into."""
    rows, columns = (margins(n, size, stride, padding) for n in x.shape[1:3])
    return jnp.pad(x, ((0, 0), rows, columns, (0, 0)))


def windows(
    x: jax.Array, height: int, width: int, stride: int, size: int = 3
) -> list[jax.Array]:
    """A padded map as each tap sees it, row by row: `size**2` of `[B, H', W', C]`.

    Args:
      x: of `padded`.
      height, width: `H'` and `W'`, of the result of the convolution.
      stride: of the convolution.
      size: of its kernel.
    """
    # The last window begins where the last output is centred.
    tall, wide = ((n - 1) * stride + 1 for n in (height, width))
    return [
        x[:, dy : dy + tall : stride, dx : dx + wide : stride]
        for dy in range(size)
        for dx in range(size)
    ]
