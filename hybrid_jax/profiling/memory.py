"""How much memory a run takes, of the device or of the process."""

import sys

import jax


def memory(device: jax.Device, program: jax.stages.Compiled) -> dict:
    """Bytes in use at most so far, whose they are, and what XLA planned a program with.

    Where a device does not count its bytes, as a CPU, they are the process's, Python
    and all else included.
    """
    stats = device.memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    analysis = program.memory_analysis()
    planned = analysis and {
        "temporary": analysis.temp_size_in_bytes,
        "arguments": analysis.argument_size_in_bytes,
    }
    return {
        "peak_bytes": _peak_of_process() if peak is None else peak,
        "of": "process" if peak is None else "device",
        "planned_bytes": planned,
    }


def _peak_of_process() -> int:
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
