"""How a map is halved where a block has a stride of two.

A stride keeps every second pixel. If the map shifts by one pixel, the stride keeps
another set of pixels, and the result differs. `blur` weakens this effect, and `aps`
removes it:

    strided  the stride itself, as published
    blur     every position is computed, and a low-pass filter precedes the stride
             (Zhang 2019): aliasing is weaker
    aps      every position is computed, and of the four sets of pixels that a stride
             could keep, the one of the largest norm is kept (adaptive polyphase
             sampling, Chaman & Dokmanic 2021): a cyclic shift of the map keeps the same
             set, shifted

The *phase* is the first row and column of the set. It is chosen once per stride, on the
main branch, and the shortcut keeps the same phase.

Shapes: `B` batch, `H W` map, `C` channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hybrid_jax.models.block_config import BlockConfig
from hybrid_jax.ops.conv_patches import pad_map
from hybrid_jax.ops.precision import at_least_float32

Phase = jax.Array | None  # int `[B]`, 2 * row + column; None for phase 0


class Downsampling(NamedTuple):
    """A way to halve a map.

    Attributes:
      low_pass: whether a low-pass filter precedes the stride.
      adaptive: whether the phase is chosen by image; otherwise it is always 0.
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
    """Return the stride of the operation before `halve`; 1 if `halve` does the work."""
    return 1 if DOWNSAMPLING[config.downsample].dense else stride


def pool(x: jax.Array, kind: str, config: BlockConfig) -> jax.Array:
    """Pool a map before `halve`; a low-pass filter takes the place of a mean.

    Args:
      x: `[B, H, W, C]`.
      kind: a key of `POOLS`.
      config: of the block.
    """
    if kind == "average" and DOWNSAMPLING[config.downsample].low_pass:
        return x
    return POOLS[kind](x, operation_stride(2, config), config.padding)


def halve(x: jax.Array, config: BlockConfig) -> tuple[jax.Array, Phase]:
    """Halve the result of an operation, unless `operation_stride` halved it already.

    Returns:
      `[B, ceil(H/2), ceil(W/2), C]` from `[B, H, W, C]`, or the map as it is if the
      operation had the stride; and the phase that was kept.
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

    It selects between slices, whose gradient is a selection too. The gradient of a
    gather would be a scatter.
    """
    x, phase = _split_phases(x), phase.reshape(-1, 1, 1, 1, 1)
    x = jnp.where(phase >= 2, x[:, :, 1], x[:, :, 0])
    return jnp.where(phase[..., 0] % 2 == 1, x[:, :, :, 1], x[:, :, :, 0])


def _split_phases(x: jax.Array) -> jax.Array:
    """Split `[B, H, W, C]` to `[B, H/2, 2, W/2, 2, C]`."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels)


def blur(x: jax.Array, padding: str) -> jax.Array:
    """Filter a map with `[1 2 1] / 4` along both axes, and halve it (Zhang 2019).

    Beyond its edge the map is reflected, or continues at the opposite edge if padding
    is circular.
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

    At the edge, means are over the pixels that exist. At stride 1, if padding is
    circular, they continue at the opposite edge. A reshape and a mean of four are
    several times faster than `reduce_window`.

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
