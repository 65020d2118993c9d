"""Draw the values of a trial so that no two trials of a search are equal."""

import typing
from typing import Any

from hybrid_jax.sweeps import samplers
from hybrid_jax.sweeps.search import Search

if typing.TYPE_CHECKING:
    from optuna import Study

DRAWS = 10  # of the sampler, before the first untried combination is taken
FIXED = "fixed_params"  # where Optuna keeps the values of an enqueued trial


def draw_untried(search: Search, study: "Study") -> dict[str, Any]:
    """Draw values that no trial has had, also no trial that runs or failed.

    Only one worker may do so at a time, until the values are stored.

    Args:
      search: a search of finitely many combinations.
      study: its trials; the new one is not among them.

    Returns:
      The values by name, as Optuna stores them. If every combination has had a trial,
      they are the first combination.
    """
    known = study.get_trials(deepcopy=False)
    given = [trial.system_attrs.get(FIXED, {}) | trial.params for trial in known]
    names = [dimension.name for dimension in search.space]
    tried = {tuple(values.get(name) for name in names) for values in given}
    # Values that are drawn in a study are stored in it, so they are drawn in a copy.
    copy = samplers.optuna().create_study(
        direction=study.direction,
        sampler=samplers.create_sampler(search.sampler, search.config.seed, len(known)),
    )
    copy.add_trials(known)
    for _ in range(DRAWS):
        trial = copy.ask()
        for dimension in search.space:
            dimension.suggest(trial)
        if tuple(trial.params[name] for name in names) not in tried:
            return dict(trial.params)
    for values in map(search.combination, range(search.size)):
        if tuple(values.values()) not in tried:
            return values
    return search.combination(0)
