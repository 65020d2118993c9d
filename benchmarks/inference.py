"""Seconds of a batch of logits: ours against the same network of timm, on PyTorch.

    pip install torch timm
    python benchmarks/inference.py

PyTorch runs in channels_last, eager and compiled with its weights frozen in, and with
the same settings of malloc as ours on a CPU. On a GPU both compute in bfloat16, PyTorch
under autocast. Ratios are to the faster of PyTorch's two.
"""

from functools import partial

from contenders import PEERS, Case, infer_ours, infer_theirs
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
        **{name: partial(infer_theirs, case, how) for name, how in PEERS.items()},
        "hybrid_jax": partial(infer_ours, case),
    }


if __name__ == "__main__":
    compare(__doc__, "logits of a batch", of, CASES, tuple(PEERS), ("ms", 1000))
