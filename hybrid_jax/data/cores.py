"""The cores that threads of this process can run on."""

import os


def usable_cores() -> int:
    """Return the number of cores, without those that `taskset` or Slurm keep away."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
