"""How a map is halved where a block has a stride of two.

A stride keeps every second pixel, so a shift by one pixel is another set of pixels, and
another map. Two ways to be indifferent to it are known:

    strided  the stride itself, as published
    blur     every position is computed, and a low-pass filter precedes the stride
             (Zhang 2019): what aliases is weaker
    aps      every position is computed, and of the four sets of pixels that a stride
             could keep, the one of the largest norm is kept (adaptive polyphase
             sampling, Chaman & Dokmanic 2021): a cyclic shift of the map keeps the same
             set, shifted

The *phase*, the set's first row and column, is chosen once a stride, on the main
branch, and the shortcut keeps the same one.

Shapes: `B` batch, `H W` map, `C` channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrid_jax.models.block_config import BlockConfig
from hybrid_jax.ops.conv_patches import pad_map
from hybrid_jax.ops.precision import at_least_float32

Phase = jax.Array | None  # int `[B]`, 2 * row + column; None is that of a stride


class Downsampling(NamedTuple):
    """A way to halve a map.

    Attributes:
      low_pass: whether a low-pass filter precedes the stride.
      adaptive: whether the phase is chosen, or always 0.
    """

    low_pass: bool = False
    adaptive: bool = False

    @property
    def dense(self) -> bool:
        """Whether the operation with the stride is computed at every position."""
        return self.low_pass or self.adaptive


DOWNSAMPLING = {
    "strided": Downsampling(),
    "blur": Downsampling(low_pass=True),
    "aps": Downsampling(adaptive=True),
}


def operation_stride(stride: int, config: BlockConfig) -> int:
    """Return the stride of an operation that `halve` follows."""
    return 1 if DOWNSAMPLING[config.downsample].dense else stride


def pool(x: jax.Array, kind: str, config: BlockConfig) -> jax.Array:
    """Pool a map that `halve` follows, by a key of `POOLS`.

    A low-pass filter takes the place of a mean.
    """
    if kind == "average" and DOWNSAMPLING[config.downsample].low_pass:
        return x
    return POOLS[kind](x, operation_stride(2, config), config.padding)


def halve(x: jax.Array, config: BlockConfig) -> tuple[jax.Array, Phase]:
    """Halve what an operation computed with `operation_stride`, if that left it whole.

    Returns:
      `[B, ceil(H/2), ceil(W/2), C]` of a map `[B, H, W, C]`, or the map as it is if
      the operation had the stride; and the phase that was kept.
    """
    adaptive = DOWNSAMPLING[config.downsample].adaptive
    phase = choose_phase(x) if adaptive else None
    return halve_alike(x, phase, config), phase


def halve_alike(x: jax.Array, phase: Phase, config: BlockConfig) -> jax.Array:
    """Halve another map of the block, at the phase that `halve` kept."""
    if DOWNSAMPLING[config.downsample].low_pass:
        return blur(x, config.padding)
    return x if phase is None else take_phase(x, phase)


def choose_phase(x: jax.Array) -> jax.Array:
    """Choose the phase of the largest Euclidean norm, image by image.

    Args:
      x: `[B, H, W, C]` with even sides.

    Returns:
      int `[B]`, 2 * row + column of the first pixel.
    """
    squares = jnp.square(_split_phases(x.astype(at_least_float32(x.dtype))))
    return squares.sum((1, 3, 5)).reshape(len(x), 4).argmax(-1)


def take_phase(x: jax.Array, phase: jax.Array) -> jax.Array:
    """Keep every second row and column of each image, from its phase.

    A choice between slices, whose gradient is a choice too; that of a gather would be a
    scatter.
    """
    x, phase = _split_phases(x), phase.reshape(-1, 1, 1, 1, 1)
    x = jnp.where(phase >= 2, x[:, :, 1], x[:, :, 0])
    return jnp.where(phase[..., 0] % 2 == 1, x[:, :, :, 1], x[:, :, :, 0])


def _split_phases(x: jax.Array) -> jax.Array:
    """Split `[B, H, W, C]` to `[B, H/2, 2, W/2, 2, C]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def blur(x: jax.Array, padding: str) -> jax.Array:
    """Halve a map behind the binomial filter `[1 2 1] / 4` of each axis (Zhang 2019).

    Beyond its edge the map is reflected, or goes on at the opposite edge where
    convolutions have circular padding.
    """
    mode = "wrap" if padding == "circular" else "reflect"
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
    for axis in (1, 2):
        first, middle, last = (
            jax.lax.slice_in_dim(x, tap, x.shape[axis] - 2 + tap, 2, axis)
            for tap in range(3)
        )
        x = (first + 2 * middle + last) / 4
    return x


def average_pool(x: jax.Array, stride: int = 2, padding: str = "") -> jax.Array:
    """Take 2x2 means at stride 1 or 2.

    The last row and column of an odd map are means of the pixels that exist; those of
    stride 1 go on at the opposite edge if padding is circular. A reshape and a mean of
    four are several times faster than `reduce_window`.

    Returns:
      `[B, ceil(H/stride), ceil(W/stride), C]`.
    """
    if stride == 1:
        mode = "wrap" if padding == "circular" else "edge"
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), mode=mode)
        rows = x[:, :-1] + x[:, 1:]
        return (rows[:, :, :-1] + rows[:, :, 1:]) / 4
    height, width = x.shape[1:3]
    if height % 2 or width % 2:
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return _split_phases(x).mean((2, 4))


def max_pool(x: jax.Array, stride: int = 2, padding: str = "") -> jax.Array:
    """Take 3x3 maxima at stride 1 or 2; shapes as in `average_pool`."""
    pads = ((1, 1), (1, 1))
    if padding == "circular":
        x, pads = pad_map(x, stride, 3, padding), ((0, 0), (0, 0))
    return nn.max_pool(x, (3, 3), strides=(stride, stride), padding=pads)


POOLS = {"average": average_pool, "max": max_pool}
