"""How fast a device could multiply: from its maker's data sheet, or measured."""

import re
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Peak(NamedTuple):
    """Attributes:
    flops: a second, at most.
    source: "data sheet" or "measured".
    """

    flops: float
    source: str


# Teraflops of dense products in bfloat16 (sums in float32) and in float32 without TF32,
# by the whole of a `device_kind`, so that a slice of a GPU (MIG) is not taken for all
# of it. None is what the hardware lacks.
#
# NVIDIA's data sheets, where figures "with sparsity" are twice these: A100 (2021), H100
# (2023), H200 (2024), L4, L40S, V100 (2020), T4; of the RTX cards, the appendices of
# the white papers on GA102 and Ada. By default jax takes products of float32 in TF32
# where a GPU has it, and so may surpass the second figure.
#
# Google's cloud.google.com/tpu/docs/v2 to /v6e, of a chip, halved where jax's device is
# one of its two cores (v2, v3). A TPU takes products of float32 in bfloat16 too, unless
# another precision is asked for.
TERAFLOPS = {
    r"NVIDIA A100.*GB( PCIe)?": (312, 19.5),
    r"NVIDIA H100 80GB HBM3": (989, 67),
    r"NVIDIA H100 PCIe": (756, 51),
    r"NVIDIA H200": (989, 67),
    r"NVIDIA L4": (121, 30.3),
    r"NVIDIA L40S": (362, 91.6),
    r"Tesla V100-SXM.*": (None, 15.7),
    r"Tesla V100-PCIE.*": (None, 14),
    r"Tesla T4": (None, 8.1),
    r"NVIDIA GeForce RTX 3090": (71, 35.6),
    r"NVIDIA GeForce RTX 4090": (165.2, 82.6),
    r"TPU v2": (22.5, 22.5),
    r"TPU v3": (61.5, 61.5),
    r"TPU v4": (275, 275),
    r"TPU v5( lite|e)": (197, 197),
    r"TPU v5p?": (459, 459),
    r"TPU v6( lite|e)": (918, 918),
}
DTYPES = ("bfloat16", "float32")

SIDES = {"cpu": 2048}  # of the matrices that are multiplied to measure, by platform
SIDE = 8192
SECONDS = 2.0  # long enough for a busy machine to have a free moment
LEAST_PRODUCTS = 3


def peak_of(device: jax.Device, dtype: str) -> Peak:
    """The most that a device does in a dtype, by its data sheet or else measured."""
    known = published(device.device_kind, dtype)
    return Peak(known, "data sheet") if known else Peak(measured(dtype), "measured")


def published(kind: str, dtype: str) -> float | None:
    """FLOP/s of a `device_kind` in a dtype; None if the table does not say."""
    rows = (row for name, row in TERAFLOPS.items() if re.fullmatch(name, kind))
    figures = dict(zip(DTYPES, next(rows, ()), strict=False))
    figure = figures.get(dtype)
    return figure and figure * 1e12


def measured(dtype: str) -> float:
    """FLOP/s of the fastest of several products of large square matrices."""
    side = SIDES.get(jax.default_backend(), SIDE)
    product = jax.jit(jnp.matmul)
    matrix = jnp.full((side, side), 1 / side, dtype)
    product(matrix, matrix).block_until_ready()
    times = []
    while len(times) < LEAST_PRODUCTS or sum(times) < SECONDS:
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)
