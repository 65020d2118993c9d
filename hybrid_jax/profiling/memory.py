"""Peak memory of the device or of the process."""

import jax

from hybrid_jax.runtime import peak_memory


def measure_memory(device: jax.Device, program: jax.stages.Compiled) -> dict:
    """Return the peak of bytes in use, and what XLA planned a program with."""
    peak, owner = peak_memory(device)
    analysis = program.memory_analysis()
    return {
        "peak_bytes": peak,
        "of": owner,
        "planned_bytes": analysis
        and {
            "temporary": analysis.temp_size_in_bytes,
            "arguments": analysis.argument_size_in_bytes,
        },
    }
