"""Dense 3x3 convolution by Winograd's minimal filtering, F(2x2, 3x3).

A tile of 2x2 outputs is computed from 4x4 inputs with 16 products instead of 36, for
each pair of an input and an output channel (Lavin & Gray 2016). Sums and differences
bring the map, the kernel and the result to and from the domain in which the products
are taken. There, each of the 16 positions in a tile is one matrix product over all
tiles. The gradients of the input and of the kernel take 16 such products each.

On a CPU this is faster than XLA's own convolution, inside a loop and outside. Each
operation is compiled apart: otherwise XLA would compute a norm and an activation before
it anew in each of 16 consumers, and keep the tiles, which are four times as large as
their map, until the backward pass.

Shapes: `B` images, `H W` map, `C` channels in, `F` out, `T = B * ceil(H/2) * ceil(W/2)`
tiles.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from hybrid_jax.ops.conv_patches import pad_map, tap_slices
from hybrid_jax.ops.derivatives import define_derivatives, tangent_of_bilinear
from hybrid_jax.ops.fusion import compiled_apart

# In one dimension, `_output(_input(four values) * _KERNEL @ (three taps))` are the two
# outputs. In two dimensions, 16 positions are made from 9 taps.
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_KERNEL_2D = np.kron(_KERNEL, _KERNEL)

Arrays = tuple[jax.Array, ...]
Grid = Sequence[Arrays]  # rows of positions in a tile


def _input(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> Arrays:
    return a - c, b + c, c - b, b - d


def _output(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> Arrays:
    return a + b + c, b - c - d


def _output_transposed(a: jax.Array, b: jax.Array) -> Arrays:
    return a, a + b, a - b, -b


def _along_both_axes(transform: Callable[..., Arrays], grid: Iterable[Arrays]) -> Grid:
    rows = [transform(*row) for row in grid]
    columns = [transform(*column) for column in zip(*rows, strict=True)]
    return list(zip(*columns, strict=True))


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def convolution_winograd(
    x: jax.Array, kernel: jax.Array, padding: str = "symmetric"
) -> jax.Array:
    """Compute `conv.convolution_reference` for 3x3 kernels at stride 1.

    In float32, rounding errors are of the size of the direct sum's. In narrower types
    they are larger, since differences of inputs are rounded.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[3, 3, C, F]`.
      padding: see `conv_patches`.

    Returns:
      `[B, H, W, F]`.
    """
    return _convolve(x, kernel, padding)


@partial(compiled_apart, static_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    weights = jnp.asarray(_KERNEL_2D, kernel.dtype) @ kernel.reshape(9, -1)
    weights = weights.reshape(16, *kernel.shape[2:])
    tiles = _flatten(_input_tiles(x, padding))
    products = [tile @ weight for tile, weight in zip(tiles, weights, strict=True)]
    rows = zip(*[iter(products)] * 4, strict=True)
    outputs = _along_both_axes(_output, rows)

    height, width = x.shape[1:3]
    shape = len(x), -(-height // 2), -(-width // 2), kernel.shape[-1]
    pairs = [jnp.stack([y.reshape(shape) for y in row], 3) for row in outputs]
    whole = jnp.stack(pairs, 2).reshape(len(x), 2 * shape[1], 2 * shape[2], -1)
    return whole[:, :height, :width]


def _input_tiles(x: jax.Array, padding: str) -> Grid:
    """Return the transformed tiles of `[B, H, W, C]`."""
    x = _pad_to_even(pad_map(x, 1, padding=padding))
    height, width = (side // 2 - 1 for side in x.shape[1:3])
    taps = tap_slices(x, height, width, stride=2, size=4)
    return _along_both_axes(_input, zip(*[iter(taps)] * 4, strict=True))


def _pad_to_even(x: jax.Array) -> jax.Array:
    """Pad odd sides with zeros, which only reach outputs that are cut off."""
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def _flatten(grid: Grid) -> list[jax.Array]:
    """Return the 16 positions of all tiles, as matrices `[T, channels]`."""
    return [x.reshape(-1, x.shape[-1]) for row in grid for x in row]


def _forward(
    x: jax.Array, kernel: jax.Array, padding: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, padding), (x, kernel)


def _backward(
    padding: str, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return convolution_winograd(dy, turned, padding), _kernel_gradient(x, dy, padding)


@partial(compiled_apart, static_argnums=(2,))
def _kernel_gradient(x: jax.Array, dy: jax.Array, padding: str) -> jax.Array:
    dy = _pad_to_even(dy)
    phases = [tuple(dy[:, row::2, column::2] for column in (0, 1)) for row in (0, 1)]
    outputs = _flatten(_along_both_axes(_output_transposed, phases))
    tiles = _flatten(_input_tiles(x, padding))
    products = [tile.T @ output for tile, output in zip(tiles, outputs, strict=True)]
    gradient = jnp.asarray(_KERNEL_2D.T, dy.dtype) @ jnp.stack(products).reshape(16, -1)
    return gradient.reshape(3, 3, x.shape[-1], dy.shape[-1])


_tangent = tangent_of_bilinear(convolution_winograd)
define_derivatives(convolution_winograd, _forward, _tangent, _backward)
