"""Where a depthwise 3x3 convolution reads and writes, position by position.

A position `p` is that of row `p // width` and column `p % width`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hybrid_jax.ops.conv_patches import tap_padding

TAPS = [(row, column) for row in range(3) for column in range(3)]


class Layout(NamedTuple):
    """Where a convolution reads, and how its positions are split into tiles.

    Attributes:
      size: `(H, W)`.
      stride, padding: as in `depthwise_reference`.
      tile: positions of a tile.
      tiles: most tiles of a program.
    """

    size: tuple[int, int]
    stride: int
    padding: str
    tile: int = 16
    tiles: int = 32

    @property
    def result(self) -> tuple[int, int]:
        """`(H', W')`."""
        height, width = (-(-side // self.stride) for side in self.size)
        return height, width

    @property
    def front(self) -> tuple[int, int]:
        """Pixels of padding above and left of the input."""
        above, left = (
            tap_padding(side, 3, self.stride, self.padding)[0] for side in self.size
        )
        return above, left

    def inputs(
        self, positions: jax.Array, tap: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        """Return the input that a tap reads for an output, and whether there is one."""
        at, is_there = [], jnp.full(positions.shape, True)
        for out, side, front, offset in zip(
            _coordinates(positions, self.result[1]),
            self.size,
            self.front,
            tap,
            strict=True,
        ):
            index = out * self.stride + (offset - front)
            if self.padding == "circular":
                index = lax.rem(index + side, jnp.int32(side))
            is_there &= (index >= 0) & (index < side)
            at.append(jnp.clip(index, 0, side - 1))
        return at[0] * self.size[1] + at[1], is_there

    def outputs(
        self, positions: jax.Array, tap: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        """Return the output that reads an input by a tap, and whether there is one."""
        at, is_there = [], jnp.full(positions.shape, True)
        for index, side, length, front, offset in zip(
            _coordinates(positions, self.size[1]),
            self.size,
            self.result,
            self.front,
            tap,
            strict=True,
        ):
            times = index + (front - offset)  # the output times the stride
            if self.padding == "circular":
                times = lax.rem(times + side, jnp.int32(side))
            is_there &= times >= 0
            times = jnp.maximum(times, 0)
            is_there &= lax.rem(times, jnp.int32(self.stride)) == 0
            out = lax.div(times, jnp.int32(self.stride))
            is_there &= out < length
            at.append(jnp.minimum(out, length - 1))
        return at[0] * self.result[1] + at[1], is_there


def _coordinates(positions: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    return lax.div(positions, jnp.int32(width)), lax.rem(positions, jnp.int32(width))
