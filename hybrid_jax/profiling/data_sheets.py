"""Peak FLOP/s of devices, from their makers' data sheets."""

import re

# Teraflops of dense products in bfloat16 (sums in float32) and in float32 without TF32.
# The whole of a `device_kind` must match, so that a slice of a GPU (MIG) is not taken
# for the whole GPU. A dtype that the hardware lacks is left out.
#
# Source for GPUs: NVIDIA's data sheets, where figures "with sparsity" are twice these:
# A100 (2021), H100 (2023), H200 (2024), L4, L40S, V100 (2020), T4; for the RTX cards,
# the appendices of the white papers on GA102 and Ada. By default jax computes products
# of float32 in TF32 where a GPU has it, and so may exceed the second figure.
#
# Source for TPUs: Google's cloud.google.com/tpu/docs/v2 to /v6e, of a chip, halved
# where jax's device is one of its two cores (v2, v3). A TPU computes products of
# float32 in bfloat16 too, unless another precision is asked for.
TERAFLOPS: dict[str, dict[str, float]] = {
    r"NVIDIA A100.*GB( PCIe)?": {"bfloat16": 312, "float32": 19.5},
    r"NVIDIA H100 80GB HBM3": {"bfloat16": 989, "float32": 67},
    r"NVIDIA H100 PCIe": {"bfloat16": 756, "float32": 51},
    r"NVIDIA H200": {"bfloat16": 989, "float32": 67},
    r"NVIDIA L4": {"bfloat16": 121, "float32": 30.3},
    r"NVIDIA L40S": {"bfloat16": 362, "float32": 91.6},
    r"Tesla V100-SXM.*": {"float32": 15.7},
    r"Tesla V100-PCIE.*": {"float32": 14},
    r"Tesla T4": {"float32": 8.1},
    r"NVIDIA GeForce RTX 3090": {"bfloat16": 71, "float32": 35.6},
    r"NVIDIA GeForce RTX 4090": {"bfloat16": 165.2, "float32": 82.6},
    r"TPU v2": {"bfloat16": 22.5, "float32": 22.5},
    r"TPU v3": {"bfloat16": 61.5, "float32": 61.5},
    r"TPU v4": {"bfloat16": 275, "float32": 275},
    r"TPU v5( lite|e)": {"bfloat16": 197, "float32": 197},
    r"TPU v5p?": {"bfloat16": 459, "float32": 459},
    r"TPU v6( lite|e)": {"bfloat16": 918, "float32": 918},
}


def data_sheet_flops(device_kind: str, dtype: str) -> float | None:
    """Return the FLOP/s of a `device_kind` in a dtype; None if the table lacks it."""
    for pattern, teraflops in TERAFLOPS.items():
        if re.fullmatch(pattern, device_kind):
            return teraflops[dtype] * 1e12 if dtype in teraflops else None
    return None
