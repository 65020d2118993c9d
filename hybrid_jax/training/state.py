"""Everything that a step reads and writes, and that a checkpoint holds."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from hybrid_jax.training.optimizers import frozen
from hybrid_jax.training.packed_params import bundled, rebundled


class TrainState(flax.struct.PyTreeNode):
    """Its vectors are bundled; `bundles.unbundled` is as the network has them.

    Attributes:
    step: steps done, int32.
    seed: of augmentation, dropout and drop-path, int32. Here rather than compiled in,
      so that runs that differ in the seed alone share their programs.
    params, batch_stats: the network's variables.
    opt_state: the optimiser's.
    average: exponential moving averages of `{params, batch_stats}`, or None.
    """

    step: jax.Array
    seed: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    average: dict | None

    @property
    def variables(self) -> dict:
        """What the network is applied with in training."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def evaluated(self) -> dict:
        """What the network is evaluated with: the averages where they are kept."""
        return self.variables if self.average is None else self.average

    def starting_from(self, variables: dict) -> "TrainState":
        """The same state with other variables, which its averages start from too.

        They are as the network has them.
        """
        variables = rebundled(variables, self.variables)
        average = None if self.average is None else jax.tree.map(jnp.copy, variables)
        return self.replace(average=average, **variables)


def create_state(
    model: nn.Module,
    optimiser: optax.GradientTransformation,
    seed: jax.Array,
    image_shape: tuple[int, int, int],
    averaged: bool,
    freeze: tuple[str, ...] = (),
) -> TrainState:
    """A state at step 0, pure: to be jitted, or asked for its shapes.

    Args:
      model: the network.
      optimiser: whose state is made.
      seed: of the initialisation and of all that is random in training, int32.
      image_shape: `(height, width, channels)` of the network's input.
      averaged: whether moving averages are kept.
      freeze: patterns of parameters that are kept, which no bundle may hide.
    """
    variables = model.init(jax.random.key(seed), jnp.zeros((1, *image_shape)))
    params = bundled(variables["params"], frozen(variables["params"], freeze))
    batch_stats = bundled(variables.get("batch_stats", {}))
    evaluated = {"params": params, "batch_stats": batch_stats}
    return TrainState(
        step=jnp.int32(0),
        seed=jnp.asarray(seed, jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimiser.init(params),
        # Copies: donated buffers must not be given away twice.
        average=jax.tree.map(jnp.copy, evaluated) if averaged else None,
    )
