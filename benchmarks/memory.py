"""Peak memory of training steps: ours against the same network of timm.

    pip install torch timm
    python benchmarks/memory.py

On a CPU: how much a process grows, after all imports, while it makes the network and
runs a few steps. On a GPU: the most memory in use that the allocators report. Ratios
are to the smaller of PyTorch's two.
"""

from functools import partial

from contenders import (
    CASES,
    PEERS,
    Case,
    beside_timm,
    peak_memory,
    train_ours,
    train_theirs,
)
from interleaved import Contender, compare


def contenders(case: Case) -> dict[str, Contender]:
    """Return the contenders of a case by name."""
    steps = beside_timm(train_ours, train_theirs, case)
    return {name: partial(peak_memory, make) for name, make in steps.items()}


if __name__ == "__main__":
    what = "memory of a training step"
    compare(__doc__, what, contenders, CASES, tuple(PEERS), ("MB", 1e-6))
