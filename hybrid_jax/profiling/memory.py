"""Measure the peak memory of the device or of the process."""

import jax

from hybrid_jax.runtime import peak_memory, planned_memory


def measure_memory(device: jax.Device, program: jax.stages.Compiled) -> dict:
    """Return the peak of bytes in use, and the bytes that XLA planned for a program."""
    peak, owner = peak_memory(device)
    planned = planned_memory(program)
    return {
        "peak_bytes": peak,
        "of": owner,
        "planned_bytes": planned
        and {"temporary": planned.temporary, "arguments": planned.arguments},
    }
