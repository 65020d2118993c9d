"""Seconds of a training step: ours against the same network of timm, on PyTorch.

    pip install torch timm
    python benchmarks/train_step.py

Forward, backward and AdamW on one batch, the same widths, depths, strides and number of
parameters. PyTorch runs in channels_last, eager and compiled, with its fused AdamW, and
with the same settings of malloc as ours on a CPU. On a GPU both compute in bfloat16,
PyTorch under autocast. Ratios are to the faster of PyTorch's two.
"""

from functools import partial

from contenders import PEERS, Case, train_ours, train_theirs
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
    return {
        **{name: partial(train_theirs, case, how) for name, how in PEERS.items()},
        "hybrid_jax": partial(train_ours, case),
    }


if __name__ == "__main__":
    compare(__doc__, "a training step", of, CASES, tuple(PEERS), ("ms", 1000))
