"""Learning rates and weight decay as arguments of a program, and as part of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hybrid_jax.config.schema import OptimConfig
from hybrid_jax.training import optimizers
from hybrid_jax.training.optimizers import OPTIMIZERS, Rates
from hybrid_jax.training.schedules import SCHEDULES, Lengths

LENGTHS = Lengths(2, 6, (4,))
AROUND = {
    "clipped": {"clip_norm": 0.1},
    "lookahead": {"lookahead_steps": 2, "layer_decay": 0.7},
}


def path(create, rates):
    """The parameters behind each of six steps, compiled as one program."""
    rng = np.random.default_rng(0)
    params = {
        "stage1_block1": {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)},
        "head": {"kernel": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)},
    }
    grads = jnp.asarray(rng.normal(size=6), jnp.float32)

    @jax.jit
    def run(rates):
        optimizer = create(rates)

        def step(carry, scale):
            params, state = carry
            gradients = jax.tree.map(lambda p: scale * jnp.cos(p), params)
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params

        return jax.lax.scan(step, (params, optimizer.init(params)), grads)[1]

    return run(rates)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_traced_rate_takes_the_same_steps(name, around):
    config = OptimConfig(
        name=name, learning_rate=0.03, weight_decay=0.2, **AROUND[around]
    )
    row = OPTIMIZERS[name]
    schedule = SCHEDULES["cosine"](config, LENGTHS)
    optimizer = optimizers.create_optimizer(row, schedule, config)
    expected = path(lambda rates: optimizer, None)
    create = optimizers.create_of_rates(row, OptimConfig(name=name, **AROUND[around]))
    rates = np.float32([schedule(step) for step in range(LENGTHS.total)])
    found = path(create, Rates(rates, np.float32(0.2)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        found,
        expected,
    )
    other = path(create, Rates(rates, np.float32(0.0)))
    assert not np.allclose(other["head"]["kernel"], expected["head"]["kernel"])
