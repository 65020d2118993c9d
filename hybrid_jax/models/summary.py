"""Summary of a network: its parts with shapes, parameters and GMACs, as a table."""

from typing import Any

import jax
from clu import parameter_overview
from jax.sharding import SingleDeviceSharding

from hybrid_jax.models.catalog import align
from hybrid_jax.models.cost import cost, image_shape
from hybrid_jax.models.hybrid import HybridNet
from hybrid_jax.models.strides import format_size
from hybrid_jax.models.vit import ViT
from hybrid_jax.ops.backend import reference_implementations


def summary(model: HybridNet | ViT, channels: int = 3, parameters: bool = False) -> str:
    """Format a network's parts with shapes, parameters and GMACs as a table.

    Nothing is computed, so a network may be larger than the machine's memory.

    Args:
      model: the network; costs are those of one image of its `image_size`.
      channels: of the image.
      parameters: whether a table of every parameter follows.
    """
    counted = cost(model, channels)
    rows = [("", "shape", "parameters", "GMACs")]
    rows += [
        (
            part.name,
            format_size(part.shape),
            f"{part.parameters:,}",
            f"{part.macs / 1e9:.3f}",
        )
        for part in counted.parts
    ]
    rows += [("total", "", f"{counted.parameters:,}", f"{counted.macs / 1e9:.3f}")]
    lines = [*align(rows, ">"), "", _flops_line(model, channels, counted.variables)]
    if parameters:
        overview = parameter_overview.get_parameter_overview(
            counted.variables["params"], include_stats=False
        )
        lines += ["", overview]
    return "\n".join(lines)


def _flops_line(model: HybridNet | ViT, channels: int, variables: dict) -> str:
    """Format XLA's cost analysis of the program that computes one image's logits."""
    shape = format_size((*model.image_size, channels))
    try:
        # Only the CPU backend analyzes programs that are not compiled.
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return f"for one image of {shape}; no FLOPs, since JAX_PLATFORMS has no cpu"

    with reference_implementations():
        # XLA counts a loop once, so no blocks are scanned over here.
        program = jax.jit(
            model.clone(scan="off").apply, in_shardings=SingleDeviceSharding(device)
        ).lower(variables, image_shape(model, channels))
    analysis: Any = program.cost_analysis()
    gflops = analysis["flops"] / 1e9
    return f"for one image of {shape}; {gflops:.3f} GFLOPs in XLA's cost analysis"
