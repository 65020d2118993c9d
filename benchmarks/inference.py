"""Seconds of a batch of logits: ours against the same network of timm, on PyTorch.

    pip install torch timm
    python benchmarks/inference.py

PyTorch runs in channels_last, eager and compiled with its weights frozen in, and with
the same settings of malloc as ours on a CPU. On a GPU both compute in bfloat16, PyTorch
under autocast. Ratios are to the faster of PyTorch's two.
"""

from functools import partial

from contenders import CASES, PEERS, beside_timm, infer_ours, infer_theirs
from interleaved import compare

if __name__ == "__main__":
    contenders = partial(beside_timm, infer_ours, infer_theirs)
    compare(__doc__, "logits of a batch", contenders, CASES, tuple(PEERS), ("ms", 1000))
