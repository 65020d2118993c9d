"""Find the peak FLOP/s of a device, from its maker's data sheet or by measurement."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hybrid_jax.profiling.data_sheets import data_sheet_flops


class PeakFlops(NamedTuple):
    """The most floating-point operations that a device does in a second.

    Attributes:
      per_second: FLOP/s.
      source: "data sheet" or "measured".
    """

    per_second: float
    source: str


MATRIX_SIDE = 8192  # of the matrix products that are timed
CPU_MATRIX_SIDE = 2048
MIN_SECONDS = 2.0  # of timing, so that a busy machine has a free moment
MIN_PRODUCTS = 3


def peak_flops(device: jax.Device, dtype: str) -> PeakFlops:
    """Return a device's peak FLOP/s in a dtype, by its data sheet or else measured."""
    known = data_sheet_flops(device.device_kind, dtype)
    if known is None:
        return PeakFlops(measure_matmul_flops(dtype), "measured")
    return PeakFlops(known, "data sheet")


def measure_matmul_flops(dtype: str) -> float:
    """Return the FLOP/s of the fastest of several products of large matrices."""
    side = CPU_MATRIX_SIDE if jax.default_backend() == "cpu" else MATRIX_SIDE
    product = jax.jit(jnp.matmul)
    matrix = jnp.full((side, side), 1 / side, dtype)
    product(matrix, matrix).block_until_ready()
    seconds: list[float] = []
    while len(seconds) < MIN_PRODUCTS or sum(seconds) < MIN_SECONDS:
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)
