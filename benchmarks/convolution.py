"""Dense 3x3 convolution on a CPU, forward and backward: Winograd's form against XLA's.

    python benchmarks/convolution.py

In float32, for maps of the stem of `astroformer_0` and of wide residual networks. Steps
run in a loop, as in training. The ratio is the time of XLA's convolution, with the
kernel's gradient as products, to that of Winograd's form.
"""

from functools import partial
from typing import NamedTuple

from contenders import Measure, step_timer
from interleaved import Contender, compare

STEPS = 4  # of one call
DIRECT, WINOGRAD = "direct", "Winograd"


class Map(NamedTuple):
    """The side of a map, its channels, and the batch."""

    side: int
    channels: int
    batch: int

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, {self.channels} channels, batch {self.batch}"


def convolve(case: Map, form: str) -> Measure:
    """Measure a convolution with the gradients of map and kernel."""
    import jax

    from hybrid_jax.ops.conv import convolution_unstrided
    from hybrid_jax.ops.winograd import convolution_winograd

    fn = {DIRECT: convolution_unstrided, WINOGRAD: convolution_winograd}[form]
    side, channels, batch = case
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (batch, side, side, channels))
    kernel = jax.random.normal(keys[1], (3, 3, channels, channels)) / channels

    def step(arguments: tuple, _: None) -> tuple:
        y, transpose = jax.vjp(fn, *arguments)
        gradients = transpose(y)
        return jax.tree.map(lambda a, b: a - 1e-6 * b, arguments, gradients), None

    loop = jax.jit(lambda *arguments: jax.lax.scan(step, arguments, length=STEPS))

    def steps(count: int) -> None:
        for _ in range(count):
            result = loop(x, kernel)
        jax.block_until_ready(result)

    return step_timer(steps)


def contenders(case: Map) -> dict[str, Contender]:
    """Return both forms of convolution by name."""
    return {form: partial(convolve, case, form) for form in (DIRECT, WINOGRAD)}


CASES = {
    "cpu": [
        Map(16, 64, 64),
        Map(112, 64, 8),
        Map(32, 32, 50),
        Map(16, 64, 50),
        Map(8, 128, 50),
    ],
}

if __name__ == "__main__":
    ms = 1000 / STEPS
    compare(__doc__, "convolution", contenders, CASES, (DIRECT,), ("ms", ms))
