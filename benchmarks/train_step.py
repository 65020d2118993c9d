"""Seconds of a training step: ours against the same network of timm, on PyTorch.

    pip install torch timm
    python benchmarks/train_step.py

Forward, backward and AdamW on one batch, the same widths, depths, strides and number of
parameters. PyTorch runs in channels_last, eager and compiled, with its fused AdamW, and
with the same settings of malloc as ours on a CPU. On a GPU both compute in bfloat16,
PyTorch under autocast. Ratios are to the faster of PyTorch's two.
"""

from functools import partial

from contenders import CASES, PEERS, beside_timm, train_ours, train_theirs
from interleaved import compare

if __name__ == "__main__":
    contenders = partial(beside_timm, train_ours, train_theirs)
    compare(__doc__, "a training step", contenders, CASES, tuple(PEERS), ("ms", 1000))
