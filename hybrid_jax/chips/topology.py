"""Describe devices that this machine lacks, so that XLA can compile for them.

The compiler for TPUs is in the package libtpu, and that for GPUs in jax's CUDA plugin.
Each takes a description of the chips instead of the chips.
"""

import os
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from hybrid_jax.chips.specs import CHIPS, Chip
from hybrid_jax.errors import UserError, first_line
from hybrid_jax.extras import import_extra

# Otherwise libtpu asks Google's servers which machine it is on, and waits for them.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
FLAGS = "XLA_FLAGS"
# Without the GPU, XLA cannot time its own matrix products against the library's, so it
# must not try. A run on the GPU does.
GPU_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
# The facts that XLA needs of a GPU. Source: NVIDIA's CUDA programming guide, "Technical
# specifications per compute capability", and data sheets.
GPUS: Mapping[str, dict[str, Any]] = {
    "a100": {
        "capability": (8, 0),
        "core_count": 108,
        "fpus_per_core": 64,
        "shared_memory_per_core": 167936,
        "shared_memory_per_block_optin": 166912,
        "l2_cache_size": 41943040,
        "clock_rate_ghz": 1.41,
    },
    "h100": {
        "capability": (9, 0),
        "core_count": 132,
        "fpus_per_core": 128,
        "shared_memory_per_core": 233472,
        "shared_memory_per_block_optin": 232448,
        "l2_cache_size": 52428800,
        "clock_rate_ghz": 1.98,
    },
}
GPUS = {**GPUS, "h200": GPUS["h100"]}
CUDNN = (9, 10, 0)


class Target(NamedTuple):
    """The chips that a user asks to compile for.

    Attributes:
      chip: kind of chip.
      topology: arrangement of several chips, as XLA writes it; "" for one chip.
    """

    chip: Chip
    topology: str = ""

    def __str__(self) -> str:
        return ":".join(filter(None, (self.chip.name, self.topology)))


def parse_target(text: str) -> Target:
    """Read `CHIP` or `CHIP:TOPOLOGY`, such as `v5e:4x4` or `h100:8`.

    Raises:
      UserError: there is no such chip, or no such arrangement of chips.
    """
    name, colon, topology = text.lower().partition(":")
    if name not in CHIPS:
        raise UserError(f"--target={text} is not known: take {', '.join(CHIPS)}")
    chip = CHIPS[name]
    rule = r"[1-9]\d*" if chip.platform == "cuda" else r"[1-9]\d*(x[1-9]\d*){1,2}"
    if colon and not re.fullmatch(rule, topology):
        example = f"{name}:8" if chip.platform == "cuda" else f"{name}:{chip.topology}"
        raise UserError(f"--target={text}: write several chips as {example}")
    return Target(chip, topology)


def prepare_process(target: Target) -> None:
    """Set environment variables that compilers read once; call it before jax runs."""
    os.environ.update(ENVIRONMENT)
    given = os.environ.pop(FLAGS, "")
    if target.chip.platform == "cuda":
        os.environ[FLAGS] = f"{given} {GPU_FLAGS}".strip()
    elif given:  # libtpu would end the process for a flag that it does not know
        print(
            f"{FLAGS}={given} is left out: a TPU's compiler takes LIBTPU_INIT_ARGS",
            file=sys.stderr,
        )


def describe_devices(target: Target) -> list[Any]:
    """Return devices to compile for: one chip, or all of a topology.

    Raises:
      UserError: the compiler is not installed, or does not know the topology.
    """
    chip = target.chip
    if chip.platform == "tpu":
        import_extra("libtpu", extra="tpu", purpose=f"--target={target}")
    else:
        import_extra("jax_cuda12_plugin", extra="gpu", purpose=f"--target={target}")
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")  # nothing runs on another device
    try:
        described = topologies.get_topology_desc(
            platform=chip.platform, **_description(target)
        )
    except Exception as error:  # compilers and versions raise many kinds
        raise UserError(
            f"--target={target} cannot be compiled for: {first_line(error)}"
        ) from None
    return list(described.devices) if target.topology else [described.devices[0]]


def _description(target: Target) -> dict[str, str]:
    chip = target.chip
    if chip.platform == "tpu":
        return {"topology_name": f"{chip.name}:{target.topology or chip.topology}"}
    return {
        "topology_name": "",
        "target_config": _gpu_description(chip),
        "topology": f"1x1x{target.topology or 1}",
    }


def _gpu_description(chip: Chip) -> str:
    """Return the facts that XLA needs of a GPU, as text of its protocol buffer."""
    facts = dict(GPUS[chip.name])
    major, minor = facts.pop("capability")
    facts |= {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "threads_per_core_limit": 2048,
        "shared_memory_per_block": 49152,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
        "block_dim_limit_x": 2147483647,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "memory_bandwidth": int(chip.bandwidth),
        "device_memory_size": chip.memory,
    }
    lines = " ".join(f"{name}: {value}" for name, value in facts.items())
    cudnn = " ".join(
        f"{name}: {value}"
        for name, value in zip(("major", "minor", "patch"), CUDNN, strict=True)
    )
    return (
        f"gpu_device_info {{ {lines} "
        f"cuda_compute_capability {{ major: {major} minor: {minor} }} }}\n"
        f'platform_name: "CUDA"\n'
        f"dnn_version_info {{ {cudnn} }}\n"
        f'device_description_str: "{chip.device_kind}"\n'
    )
