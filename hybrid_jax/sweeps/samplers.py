"""What draws the values of trials, and what ends hopeless ones: tables of Optuna's."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from hybrid_jax.extras import import_extra

REDUCTION = 3  # of halving: one of so many trials goes on behind each rung


def optuna() -> Any:
    """Import Optuna, quietly: what it logs stands in our own lines and tables.

    Raises:
      UserError: it is not installed.
    """
    module = import_extra("optuna", extra="sweep", purpose="a sweep")
    module.logging.set_verbosity(module.logging.ERROR)
    experimental = module.exceptions.ExperimentalWarning
    warnings.filterwarnings("ignore", category=experimental)
    return module


def _random(seed: int) -> Any:
    return optuna().samplers.RandomSampler(seed=seed)


def _tpe(seed: int) -> Any:
    # Without it, workers that draw at the same time would draw much the same.
    return optuna().samplers.TPESampler(seed=seed, constant_liar=True)


# The points of a grid are given, so that its sampler is never asked.
SAMPLERS: dict[str, Callable[[int], Any]] = {
    "tpe": _tpe,
    "random": _random,
    "grid": _random,
}


def _no_pruner(evaluations: int) -> Any:
    return optuna().pruners.NopPruner()


def _halving(evaluations: int) -> Any:
    # The first rung comes late enough for a schedule to show what it is good for.
    first = max(evaluations // REDUCTION**2, 1)
    return optuna().pruners.SuccessiveHalvingPruner(
        min_resource=first, reduction_factor=REDUCTION
    )


# Made for the number of evaluations of a trial's first run.
PRUNERS: dict[str, Callable[[int], Any]] = {"none": _no_pruner, "halving": _halving}


def create_sampler(name: str, seed: int, number: int) -> Any:
    """Create the sampler of one trial: workers that share a seed never draw alike."""
    sequence = np.random.SeedSequence([seed, number])
    return SAMPLERS[name](int(sequence.generate_state(1)[0]))
