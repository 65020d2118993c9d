"""Peak memory of the device or of the process."""

import sys

import jax


def measure_memory(device: jax.Device, program: jax.stages.Compiled) -> dict:
    """Return the peak of bytes in use, and what XLA planned a program with.

    A CPU does not count its bytes. There the peak is the process's, Python and all
    else included.
    """
    peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    analysis = program.memory_analysis()
    return {
        "peak_bytes": _process_peak_bytes() if peak is None else peak,
        "of": "process" if peak is None else "device",
        "planned_bytes": analysis
        and {
            "temporary": analysis.temp_size_in_bytes,
            "arguments": analysis.argument_size_in_bytes,
        },
    }


def _process_peak_bytes() -> int:
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
