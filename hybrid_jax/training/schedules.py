"""Learning rate schedules: how the rate rises in warm-up and falls after it.

A row of `SCHEDULES` maps a config and lengths in steps to an optax schedule. To add a
schedule, add a row. A program gets the rates of all steps as an argument, so schedules
are never compiled into it.
"""

import collections
from collections.abc import Callable
from typing import NamedTuple

import optax

from hybrid_jax.config.schema import OptimConfig


class Lengths(NamedTuple):
    """A run's lengths in steps.

    Attributes:
      warmup: steps of rising learning rate.
      total: steps of the run.
      decays: steps at which the epochs `config.optim.decay_epochs` are complete.
    """

    warmup: int
    total: int
    decays: tuple[int, ...] = ()


def cosine(config: OptimConfig, lengths: Lengths) -> optax.Schedule:
    """Rise linearly from 0 to the peak, then fall as a cosine.

    The rate would be 0 at the step after the last one.
    """
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, lengths.warmup, lengths.total
    )


def one_cycle(config: OptimConfig, lengths: Lengths) -> optax.Schedule:
    """Rise from a 25th of the peak as a cosine, then fall towards a 250,000th of it.

    The rate would be that small at the step after the last one.

    Source: Smith & Topin 2017, Super-Convergence, in the form of PyTorch's
    `OneCycleLR`, whose rise is not a straight line from 0. The rise is the warm-up.
    """
    # Optax rounds the product of share and steps down.
    share = (lengths.warmup + 0.5) / lengths.total
    return optax.cosine_onecycle_schedule(
        lengths.total, config.learning_rate, pct_start=share
    )


def step(config: OptimConfig, lengths: Lengths) -> optax.Schedule:
    """Rise linearly from 0, then fall by `decay_factor` at each of `decay_epochs`."""
    # Several epochs of a small data set may end in one step.
    falls = collections.Counter(decay - lengths.warmup for decay in lengths.decays)
    factors = {at: config.decay_factor**count for at, count in falls.items()}
    falling = optax.piecewise_constant_schedule(config.learning_rate, factors)
    return _behind_warmup(config, lengths, falling)


def constant(config: OptimConfig, lengths: Lengths) -> optax.Schedule:
    """Rise linearly from 0, then stay at the peak."""
    return _behind_warmup(
        config, lengths, optax.constant_schedule(config.learning_rate)
    )


def _behind_warmup(
    config: OptimConfig, lengths: Lengths, schedule: optax.Schedule
) -> optax.Schedule:
    rise = optax.linear_schedule(0.0, config.learning_rate, max(lengths.warmup, 1))
    return optax.join_schedules([rise, schedule], [lengths.warmup])


SCHEDULES: dict[str, Callable[[OptimConfig, Lengths], optax.Schedule]] = {
    "cosine": cosine,
    "one_cycle": one_cycle,
    "step": step,
    "constant": constant,
}
