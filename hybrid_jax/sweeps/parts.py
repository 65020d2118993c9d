"""Work through a fixed list of runs, beside other workers on any machines.

outcomes = work_through({"wrn/seed-0": config, "vit/seed-0": other}, "study")
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping

from hybrid_jax.config.schema import Config
from hybrid_jax.paths import expand_user
from hybrid_jax.sweeps.runs import InUse, Outcome, free_memory, run_config

POLL_SECONDS = 1.0


def work_through(
    parts: Mapping[str, Config],
    folder: str | os.PathLike,
    report: Callable[[str, Outcome], None] = lambda name, outcome: None,
) -> dict[str, Outcome]:
    """Run every part to its end, one at a time, but for those that others run.

    Start the same list in several processes, or on machines that share the folder:
    each takes the first part that nobody holds. A part whose worker has died is
    continued from its checkpoint. Parts that have ended are only read.

    Args:
      parts: configs by name; the run of a part lies in `FOLDER/NAME`.
      folder: of all parts.
      report: is called with each part as soon as this worker knows its outcome.

    Returns:
      The outcome of each part by name, once all have ended, in the order given.

    Raises:
      UserError, Interrupted: as `run_config`; the other parts stay as they are.
    """
    outcomes: dict[str, Outcome] = {}
    while len(outcomes) < len(parts):
        before = len(outcomes)
        for name, config in parts.items():
            if name in outcomes:
                continue
            with contextlib.suppress(InUse):
                outcomes[name] = run_config(config, expand_user(folder) / name)
                report(name, outcomes[name])
                free_memory()
        if len(outcomes) == before:
            time.sleep(POLL_SECONDS)
    return {name: outcomes[name] for name in parts}
