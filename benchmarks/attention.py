"""Attention with a bias, forward and backward: one fused kernel against einsums.

    python benchmarks/attention.py

In bfloat16 on a GPU, for the maps of CoAtNets and of larger images. The ratio is the
time of the einsums to that of the fused kernel. `hybrid_jax.ops.attention` chooses the
fused kernel from a number of positions on.
"""

from functools import partial
from typing import NamedTuple

from contenders import Measure, step_timer
from interleaved import Contender, compare

HEAD_DIM = 32
EINSUMS, FUSED = "einsums", "fused"


class Map(NamedTuple):
    """The side of a map, heads, and the batch."""

    side: int
    heads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, {self.heads} heads, batch {self.batch}"


def attend(case: Map, form: str) -> Measure:
    """Measure attention with the gradients of all its arguments."""
    import jax
    import jax.numpy as jnp

    from hybrid_jax.ops.attention import attention_fused, attention_reference

    fn = {EINSUMS: attention_reference, FUSED: attention_fused}[form]
    positions, keys = case.side**2, jax.random.split(jax.random.key(0), 4)
    shape = (case.batch, positions, case.heads, HEAD_DIM)
    arguments = [jax.random.normal(key, shape, jnp.bfloat16) for key in keys[:3]]
    arguments.append(jax.random.normal(keys[3], (case.heads, positions, positions)))

    @jax.jit
    def gradients(*arguments):
        return jax.grad(lambda *args: fn(*args).astype(jnp.float32).sum(), range(4))(
            *arguments
        )

    def steps(count: int) -> None:
        for _ in range(count):
            result = gradients(*arguments)
        jax.block_until_ready(result)

    return step_timer(steps)


def contenders(case: Map) -> dict[str, Contender]:
    """Return both forms of attention by name."""
    return {form: partial(attend, case, form) for form in (EINSUMS, FUSED)}


CASES = {
    "gpu": [Map(7, 24, 256), Map(14, 12, 256), Map(24, 12, 64), Map(32, 12, 32)],
}

if __name__ == "__main__":
    compare(__doc__, "attention", contenders, CASES, (EINSUMS,), ("ms", 1000))
