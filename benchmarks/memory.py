"""Peak memory of training steps: ours against the same network of timm.

    pip install torch timm
    python benchmarks/memory.py

On a CPU, by how much a process has grown since everything was imported, from the making
of the network to a few steps; on a GPU, what the allocators say was in use at most.
Ratios are to the more frugal of PyTorch's two.
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
