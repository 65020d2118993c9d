"""Memory, bandwidth and FLOP/s of each chip, from its maker's data sheet."""

from typing import NamedTuple

from hybrid_jax.errors import UserError
from hybrid_jax.profiling.data_sheets import data_sheet_flops


class Chip(NamedTuple):
    """A chip that programs can be compiled for.

    Attributes:
      name: name that users write.
      platform: platform of XLA, `tpu` or `cuda`.
      device_kind: jax's name of the device.
      memory: bytes that a program may use.
      bandwidth: bytes per second that this memory reads and writes.
      topology: XLA's name for the arrangement of chips in one machine; "" for GPUs.
    """

    name: str
    platform: str
    device_kind: str
    memory: int
    bandwidth: float
    topology: str = ""

    def flops(self, dtype: str) -> float:
        """Return the peak FLOP/s of products in a dtype.

        Raises:
          UserError: the chip has no products in this dtype.
        """
        known = data_sheet_flops(self.device_kind, dtype)
        if known is None:
            raise UserError(
                f"{self.name} has no products in {dtype}: give another --config.dtype"
            )
        return known


GB, GIB = 10**9, 2**30

# Bandwidths: Google's cloud.google.com/tpu/docs/v5e to /v6e, and NVIDIA's data sheets
# of the SXM modules (A100 80GB 2021, H100 2023, H200 2024). A TPU's memory is what its
# compiler says that it may use; a GPU's driver keeps a little of it.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", "tpu", "TPU v5 lite", int(15.75 * GIB), 819 * GB, "2x2"),
        Chip("v5p", "tpu", "TPU v5", int(95.73 * GIB), 2765 * GB, "2x2x1"),
        Chip("v6e", "tpu", "TPU v6 lite", int(31.24 * GIB), 1640 * GB, "2x2"),
        Chip("a100", "cuda", "NVIDIA A100-SXM4-80GB", 79 * GIB, 2039 * GB),
        Chip("h100", "cuda", "NVIDIA H100 80GB HBM3", 79 * GIB, 3352 * GB),
        Chip("h200", "cuda", "NVIDIA H200", 139 * GIB, 4800 * GB),
    )
}
