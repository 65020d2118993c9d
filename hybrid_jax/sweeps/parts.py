"""Work through a fixed list of runs, together with other workers on any machine.

outcomes = work_through({"wrn/seed-0": config, "vit/seed-0": other}, "study")
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping

from hybrid_jax.config.schema import Config
from hybrid_jax.paths import expand_user
from hybrid_jax.sweeps.runs import (
    InUse,
    Outcome,
    every_few_seconds,
    free_memory,
    run_config,
)

POLL_SECONDS = 1.0  # between attempts to get a part


def work_through(
    parts: Mapping[str, Config],
    folder: str | os.PathLike,
    report: Callable[[str, Outcome], None] = lambda name, outcome: None,
    watch: Callable[[], None] = lambda: None,
) -> dict[str, Outcome]:
    """Run every part that no other worker runs, and wait until all parts have ended.

    Call this with the same parts in several processes, or on machines that share the
    folder: each worker takes the first free part. A part whose worker has died is
    continued from its checkpoint. A part that has ended is only read.

    Args:
      parts: configs by name; the run of a part is in `FOLDER/NAME`.
      folder: folder of all parts.
      report: called with the name and the outcome of each part, as soon as this worker
        knows the outcome.
      watch: called every few seconds, after a row of metrics or while this worker waits
        for others.

    Returns:
      The outcome of each part by name, in the order of `parts`.

    Raises:
      UserError, Interrupted: like `run_config`; other parts are not affected.
    """
    outcomes: dict[str, Outcome] = {}
    look = every_few_seconds(watch)
    while len(outcomes) < len(parts):
        before = len(outcomes)
        for name, config in parts.items():
            if name in outcomes:
                continue
            with contextlib.suppress(InUse):
                outcomes[name] = run_config(config, expand_user(folder) / name, [look])
                report(name, outcomes[name])
                free_memory()
        if len(outcomes) == before:
            look({})
            time.sleep(POLL_SECONDS)
    return {name: outcomes[name] for name in parts}
