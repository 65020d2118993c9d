"""Most memory that training steps take: ours against the same network of timm.

    pip install torch timm
    python benchmarks/memory.py

On a CPU, by how much a process has grown since everything was imported, from the making
of the network to a few steps; on a GPU, what the allocators say was in use at most.
Ratios are to the more frugal of PyTorch's two.
"""

from functools import partial

from contenders import PEERS, Case, memory_of, train_ours, train_theirs
from turns import compare

CASES = {
    "cpu": (
        Case("astroformer_0", 32, 64),
        Case("astroformer_0", 64, 32),
        Case("astroformer_0", 224, 8),
    ),
    "gpu": (Case("astroformer_1", 224, 256), Case("astroformer_3", 224, 256)),
}


def of(case: Case) -> dict:
    steps = {
        **{name: partial(train_theirs, case, how) for name, how in PEERS.items()},
        "hybrid_jax": partial(train_ours, case),
    }
    return {name: partial(memory_of, make) for name, make in steps.items()}


if __name__ == "__main__":
    compare(__doc__, "memory of a training step", of, CASES, tuple(PEERS), ("MB", 1e-6))
