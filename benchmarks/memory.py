"""Most memory that training steps take: ours against the same network of timm.

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
    memory_of,
    train_ours,
    train_theirs,
)
from turns import compare


def contenders(case: Case) -> dict:
    steps = beside_timm(train_ours, train_theirs, case)
    return {name: partial(memory_of, make) for name, make in steps.items()}


if __name__ == "__main__":
    what = "memory of a training step"
    compare(__doc__, what, contenders, CASES, tuple(PEERS), ("MB", 1e-6))
