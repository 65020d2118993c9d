"""GPU kernels that normalize, activate and convolve depthwise in one pass (Pallas).

A depthwise convolution by a GPU's library reads a map that is normalized and activated
already, so that map is written, read, kept for the gradient, and read again. These
kernels read the map before its norm, and compute norm and activation for each value
that they load. The gradient is two passes: one for the sums over all images that the
norm's gradient needs, one for the gradient of the map.

    y = conv(a),  a = activation(x * slope + term)

A program of a kernel computes a part of the positions of one image, a tile at a time,
for a block of channels. Sums of a program are added up outside, so that they do not
depend on the order in which programs end.

Shapes: `B` images, `[H, W]` positions of the input, `[H', W']` of the result, `C`
channels. In a kernel, positions are rows of a matrix, `[T, c]` for a tile.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from hybrid_jax.ops.depthwise_layout import TAPS, Layout
from hybrid_jax.ops.gelu import gelu
from hybrid_jax.ops.precision import at_least_float32

Activation = Callable[[jax.Array], jax.Array]

CHANNELS = 64  # most channels of a block: 128 bytes of bfloat16, a line of the cache
WARPS = 4
SUMMED_TILE = 8  # positions of a tile whose sums by tap stay in registers


def convolve(
    x: jax.Array,
    affine: jax.Array,
    kernel: jax.Array,
    activation: Activation,
    layout: Layout,
    interpret: bool,
) -> jax.Array:
    """Compute `y`, `[B, H', W', C]`, of the dtype of `x`.

    Args:
      x: `[B, H, W, C]`.
      affine: slope and term of each channel, float32 `[2, C]`.
      kernel: `[3, 3, 1, C]`.
      activation: elementwise.
      layout: of the convolution.
      interpret: whether JAX runs the kernel step by step, on any device.
    """
    return _call(
        partial(_convolve, activation=activation, layout=layout),
        "norm_depthwise",
        maps=[x],
        rows=[affine, kernel.reshape(9, -1)],
        layout=layout,
        size=layout.result,
        result=x.dtype,
        interpret=interpret,
    )


def gradient_sums(
    x: jax.Array,
    dy: jax.Array,
    affine: jax.Array,
    kernel: jax.Array,
    activation: Activation,
    layout: Layout,
    interpret: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Compute sums over images and positions from `dy`, the gradient of `y`.

    Args:
      x, affine, kernel, activation, layout, interpret: as in `convolve`.
      dy: `[B, H', W', C]`.

    Returns:
      With `g` the gradient of `x * slope + term`: the sums of `g` and of `g * x`,
      float32 `[C]`, and the gradient of the kernel, float32 `[3, 3, 1, C]`.
    """
    layout = layout._replace(tile=SUMMED_TILE)
    sums = _call(
        partial(_gradient_sums, activation=activation, layout=layout),
        "norm_depthwise_gradient_sums",
        maps=[x, dy],
        rows=[affine, kernel.reshape(9, -1)],
        layout=layout,
        size=layout.size,
        result=2 + len(TAPS),
        interpret=interpret,
    )
    total = sums.sum((0, 1))
    return total[0], total[1], total[2:].reshape(kernel.shape)


def input_gradient(
    x: jax.Array,
    dy: jax.Array,
    affine: jax.Array,
    kernel: jax.Array,
    through_statistics: jax.Array,
    activation: Activation,
    layout: Layout,
    interpret: bool,
) -> jax.Array:
    """Compute `g * slope + x * tilt + shift`, `[B, H, W, C]`, the gradient of `x`.

    Args:
      x, dy, affine, kernel, activation, layout, interpret: as in `gradient_sums`.
      through_statistics: tilt and shift of each channel, float32 `[2, C]`: the part of
        the gradient that passes through mean and variance.
    """
    return _call(
        partial(_input_gradient, activation=activation, layout=layout),
        "norm_depthwise_input_gradient",
        maps=[x, dy],
        rows=[affine, kernel.reshape(9, -1), through_statistics],
        layout=layout,
        size=layout.size,
        result=x.dtype,
        interpret=interpret,
    )


def _call(
    kernel: Callable[..., None],
    name: str,
    *,
    maps: Sequence[jax.Array],
    rows: Sequence[jax.Array],
    layout: Layout,
    size: tuple[int, int],
    result: Any,
    interpret: bool,
) -> jax.Array:
    """Run a kernel on every image, part of its positions, and block of channels.

    Args:
      kernel: takes references to blocks of maps, rows and result.
      name: of the kernel, for profiles.
      maps: arrays `[B, H, W, C]` or `[B, H', W', C]`.
      rows: arrays `[N, C]`, which are passed in the precision of the arithmetic.
      layout: of the convolution.
      size: of the map whose positions are split.
      result: dtype of a map of that size; or a number of sums, `[B, parts, N, C]`.
      interpret: whether JAX runs the kernel step by step, on any device.
    """
    images, channels = len(maps[0]), maps[0].shape[-1]
    wide = at_least_float32(maps[0].dtype)
    block = next(n for n in range(CHANNELS, 0, -1) if not (channels % n or n & (n - 1)))
    positions = math.prod(size)
    tiles = min(layout.tiles, -(-positions // layout.tile))
    parts = -(-positions // (layout.tile * tiles))

    def of_map(count: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, count, block), lambda image, _, c: (image, 0, c))

    if isinstance(result, int):
        shape = jax.ShapeDtypeStruct((images, parts, result, channels), wide)
        spec = pl.BlockSpec((None, None, result, block), lambda b, k, c: (b, k, 0, c))
    else:
        shape = jax.ShapeDtypeStruct((images, positions, channels), result)
        spec = of_map(positions)
    flat = [x.reshape(images, -1, channels) for x in maps]
    out = pl.pallas_call(
        partial(kernel, tiles=tiles),
        out_shape=shape,
        grid=(images, parts, channels // block),
        in_specs=[
            *(of_map(x.shape[1]) for x in flat),
            *(pl.BlockSpec((len(r), block), lambda _, k, c: (0, c)) for r in rows),
        ],
        out_specs=spec,
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        name=name,
    )(*flat, *(r.astype(wide) for r in rows))
    return out if isinstance(result, int) else out.reshape(images, *size, channels)


def _convolve(
    x_ref: Any,
    affine_ref: Any,
    kernel_ref: Any,
    y_ref: Any,
    *,
    activation: Activation,
    layout: Layout,
    tiles: int,
) -> None:
    slope, term = affine_ref[0, :], affine_ref[1, :]
    weights = [kernel_ref[i, :] for i in range(len(TAPS))]

    def convolve_tile(tile: "_Tile", carry: int) -> int:
        shape = (layout.tile, *slope.shape)
        y = jnp.zeros(shape, slope.dtype)
        for tap, weight in zip(TAPS, weights, strict=True):
            at, is_there = layout.inputs(tile.positions, tap)
            mask = jnp.broadcast_to((is_there & tile.is_inside)[:, None], shape)
            x = _load(x_ref, at, mask).astype(slope.dtype)
            a, _ = _activate(activation, x * slope + term)
            y += jnp.where(mask, a, 0) * weight
        tile.store(y_ref, y)
        return carry

    _each_tile(layout, layout.result, tiles, convolve_tile, 0)


def _gradient_sums(
    x_ref: Any,
    dy_ref: Any,
    affine_ref: Any,
    kernel_ref: Any,
    sums_ref: Any,
    *,
    activation: Activation,
    layout: Layout,
    tiles: int,
) -> None:
    back = _Backward(x_ref, dy_ref, affine_ref, kernel_ref, activation, layout)
    zeros = jnp.zeros((layout.tile, x_ref.shape[-1]), affine_ref.dtype)

    def add_tile(tile: "_Tile", sums: tuple) -> tuple:
        x, a, g, gradients = back.of_tile(tile)
        terms = (g, g * x, *(a * dy for dy in gradients))
        return tuple(total + term for total, term in zip(sums, terms, strict=True))

    sums = (zeros,) * (2 + len(TAPS))
    for i, total in enumerate(_each_tile(layout, layout.size, tiles, add_tile, sums)):
        sums_ref[i, :] = total.sum(0)


def _input_gradient(
    x_ref: Any,
    dy_ref: Any,
    affine_ref: Any,
    kernel_ref: Any,
    through_ref: Any,
    dx_ref: Any,
    *,
    activation: Activation,
    layout: Layout,
    tiles: int,
) -> None:
    back = _Backward(x_ref, dy_ref, affine_ref, kernel_ref, activation, layout)
    slope, tilt, shift = affine_ref[0, :], through_ref[0, :], through_ref[1, :]

    def write_tile(tile: "_Tile", carry: int) -> int:
        x, _, g, _ = back.of_tile(tile)
        tile.store(dx_ref, g * slope + x * tilt + shift)
        return carry

    _each_tile(layout, layout.size, tiles, write_tile, 0)


class _Tile(NamedTuple):
    """Positions that follow each other; those beyond the map are not `is_inside`."""

    start: jax.Array
    positions: jax.Array
    is_inside: jax.Array

    def _block(self, ref: Any) -> tuple[Any, jax.Array]:
        size = len(self.positions)
        mask = jnp.broadcast_to(self.is_inside[:, None], (size, ref.shape[-1]))
        return ref.at[pl.ds(self.start, size), :], mask

    def load(self, ref: Any) -> jax.Array:
        block, mask = self._block(ref)
        return triton.load(block, mask=mask, other=0)

    def store(self, ref: Any, values: jax.Array) -> None:
        block, mask = self._block(ref)
        triton.store(block, values.astype(ref.dtype), mask=mask)


class _Backward(NamedTuple):
    """What both passes of the gradient compute for a tile of the input."""

    x_ref: Any
    dy_ref: Any
    affine_ref: Any
    kernel_ref: Any
    activation: Activation
    layout: Layout

    def of_tile(
        self, tile: _Tile
    ) -> tuple[jax.Array, jax.Array, jax.Array, list[jax.Array]]:
        """Return `x`, `a`, the gradient before the activation, and `dy` by tap."""
        slope, term = self.affine_ref[0, :], self.affine_ref[1, :]
        x = tile.load(self.x_ref).astype(slope.dtype)
        a, rise = _activate(self.activation, x * slope + term)
        gradients = []
        for tap in TAPS:
            at, is_there = self.layout.outputs(tile.positions, tap)
            mask = jnp.broadcast_to((is_there & tile.is_inside)[:, None], x.shape)
            gradients.append(_load(self.dy_ref, at, mask).astype(slope.dtype))
        da = sum(dy * self.kernel_ref[i, :] for i, dy in enumerate(gradients))
        return x, a, da * rise, gradients


def _each_tile(
    layout: Layout,
    size: tuple[int, int],
    tiles: int,
    visit: Callable[[_Tile, Any], Any],
    carry: Any,
) -> Any:
    """Pass a value from tile to tile of a program; return what the last one returns."""
    first, last = pl.program_id(1) * tiles, math.prod(size) - 1

    def step(number: int, carry: Any) -> Any:
        start = (first + number) * layout.tile
        positions = start + lax.iota(jnp.int32, layout.tile)
        tile = _Tile(start, jnp.minimum(positions, last), positions <= last)
        return visit(tile, carry)

    return lax.fori_loop(0, tiles, step, carry)


def _load(ref: Any, at: jax.Array, mask: jax.Array) -> jax.Array:
    """Load rows `[T, c]` at positions `[T]`, and zeros where the mask is false."""
    rows = jnp.broadcast_to(at[:, None], mask.shape)
    columns = lax.broadcasted_iota(jnp.int32, mask.shape, 1)
    return triton.load(ref.at[rows, columns], mask=mask, other=0)


def _activate(activation: Activation, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the activation and its derivative."""
    if activation is gelu:
        return _gelu(z)
    a, transpose = jax.vjp(activation, z)
    return a, transpose(jnp.ones_like(z))[0]


def _gelu(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return GELU and its derivative; Pallas has no error function for GPUs.

    The tail of the normal distribution is that of Abramowitz & Stegun, Handbook of
    Mathematical Functions, 7.1.26, whose error is below 1e-7.
    """
    bell = jnp.exp(-0.5 * z * z)
    t = 1 / (1 + 0.3275911 * 0.5**0.5 * jnp.abs(z))
    terms = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    polynomial = jnp.zeros_like(z)
    for term in terms:
        polynomial = (polynomial + term) * t
    tail = 0.5 * polynomial * bell
    cdf = jnp.where(z < 0, tail, 1 - tail)
    return z * cdf, cdf + z * bell * (2 * math.pi) ** -0.5
