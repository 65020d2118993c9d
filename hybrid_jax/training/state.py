"""Everything that a step reads and writes, and that a checkpoint holds."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from hybrid_jax.training.freezing import frozen_mask
from hybrid_jax.training.merged_draws import merge_draws
from hybrid_jax.training.optimizers import slow_weights, with_slow_weights
from hybrid_jax.training.packed_params import pack, pack_like


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step reads and writes.

    Vectors of a block share an array, see `packed_params`.

    Attributes:
      step: number of steps done, int32.
      seed: of augmentation, dropout and drop-path, int32. An array, so that runs that
        differ in the seed alone share their programs.
      params: parameters of the network.
      batch_stats: running statistics of the network; empty without batch norms.
      opt_state: the optimizer's state.
      average: exponential moving averages of `averaged`; with Lookahead but without
        averaging, `averaged` itself; otherwise None.
    """

    step: jax.Array
    seed: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    average: dict | None

    @property
    def variables(self) -> dict:
        """Variables of the network in training."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def averaged(self) -> dict:
        """Variables to average: with Lookahead, its slow weights; else the weights."""
        slow = slow_weights(self.opt_state)
        return self.variables if slow is None else self.variables | {"params": slow}

    @property
    def evaluated(self) -> dict:
        """Variables of the network in evaluation: the averages, if there are any."""
        return self.variables if self.average is None else self.average

    def starting_from(self, variables: dict) -> "TrainState":
        """Return the state with other variables, also in averages and slow weights.

        Args:
          variables: of the network, not packed.
        """
        variables = pack_like(variables, self.variables)
        average = None if self.average is None else jax.tree.map(jnp.copy, variables)
        slow = jax.tree.map(jnp.copy, variables["params"])
        opt_state = with_slow_weights(self.opt_state, slow)
        return self.replace(average=average, opt_state=opt_state, **variables)


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: jax.Array,
    image_shape: tuple[int, int, int],
    averaged: bool,
    freeze: tuple[str, ...] = (),
) -> TrainState:
    """Return a state at step 0.

    This is a pure function, to be jitted or traced for shapes.

    Args:
      model: the network.
      optimizer: creates the optimizer's state.
      seed: of initialization and of all that is random in training, int32.
      image_shape: `(height, width, channels)` of the network's input.
      averaged: whether moving averages are computed.
      freeze: patterns of frozen parameters, which are not packed with other vectors.
    """
    initialize = merge_draws(model.init)
    variables = initialize(jax.random.key(seed), jnp.zeros((1, *image_shape)))
    params = pack(variables["params"], frozen_mask(variables["params"], freeze))
    batch_stats = pack(variables.get("batch_stats", {}))
    opt_state = optimizer.init(params)
    evaluated = {"params": params, "batch_stats": batch_stats}
    averaged = averaged or slow_weights(opt_state) is not None
    return TrainState(
        step=jnp.int32(0),
        seed=jnp.asarray(seed, jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        # Copied, since one buffer cannot be donated twice.
        average=jax.tree.map(jnp.copy, evaluated) if averaged else None,
    )
