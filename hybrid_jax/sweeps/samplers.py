"""Tables of Optuna's samplers and pruners.

A sampler draws the values of a trial. A pruner ends trials that are unlikely to win.
"""

import typing
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from hybrid_jax.extras import import_extra

if typing.TYPE_CHECKING:
    from optuna.trial import Trial

RUNG = "completed_rung_"  # where Optuna keeps a trial's value at each rung of halving
REDUCTION = 3  # of halving: one in three trials continues after each rung


def optuna() -> Any:
    """Import Optuna without its log and warnings, since progress is printed here.

    Raises:
      UserError: Optuna is not installed.
    """
    module = import_extra("optuna", extra="sweep", purpose="a sweep")
    module.logging.set_verbosity(module.logging.ERROR)
    experimental = module.exceptions.ExperimentalWarning
    warnings.filterwarnings("ignore", category=experimental)
    return module


def _random(seed: int) -> Any:
    return optuna().samplers.RandomSampler(seed=seed)


def _tpe(seed: int) -> Any:
    # Without `constant_liar`, workers that draw at the same time get similar values.
    return optuna().samplers.TPESampler(seed=seed, constant_liar=True)


# A grid enqueues its points, so its sampler draws nothing.
SAMPLERS: dict[str, Callable[[int], Any]] = {
    "tpe": _tpe,
    "random": _random,
    "grid": _random,
}


def _no_pruner(evaluations: int) -> Any:
    return optuna().pruners.NopPruner()


def _halving(evaluations: int) -> Any:
    # The first rung is late enough for a learning rate schedule to take effect.
    first = max(evaluations // REDUCTION**2, 1)
    return optuna().pruners.SuccessiveHalvingPruner(
        min_resource=first, reduction_factor=REDUCTION
    )


# Functions of the number of evaluations in the first run of a trial.
PRUNERS: dict[str, Callable[[int], Any]] = {"none": _no_pruner, "halving": _halving}


def lower_rungs(trial: "Trial", value: float) -> None:
    """Replace the values by which halving compares other trials with a failed one.

    Otherwise, a trial that was good before it diverged would end healthy trials.

    Args:
      trial: the trial, which has not ended.
      value: the value that the trial has at each rung from now on.
    """
    known = trial.storage.get_trial(trial._trial_id).system_attrs
    for key in known:
        if key.startswith(RUNG):
            trial.storage.set_trial_system_attr(trial._trial_id, key, value)


def create_sampler(name: str, seed: int, number: int) -> Any:
    """Create the sampler of one trial; trials with one seed draw different values."""
    sequence = np.random.SeedSequence([seed, number])
    return SAMPLERS[name](int(sequence.generate_state(1)[0]))
