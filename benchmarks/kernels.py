"""Seconds of a training step on a GPU, by either value of `train.kernels`.

    python benchmarks/kernels.py

`xla` computes a norm and the depthwise convolution after it as two operations, `pallas`
as one, which moves fewer bytes. The ratio is the time of `xla` to that of `pallas`.
"""

from functools import partial

from contenders import Case, train_ours
from interleaved import Contender, compare

XLA, PALLAS = "xla", "pallas"


def contenders(case: Case) -> dict[str, Contender]:
    """Return a step with either kernels by name."""
    return {name: partial(train_ours, case, kernels=name) for name in (XLA, PALLAS)}


CASES = {
    "gpu": [
        Case("astroformer_0", 224, 64),
        Case("astroformer_1", 224, 64),
        Case("astroformer_nano", 32, 256),
    ],
}

if __name__ == "__main__":
    compare(__doc__, "a training step", contenders, CASES, (XLA,), ("ms", 1000))
