"""Refuse to read on from a run's folder once another run has taken its place.

A `Run` reads weights, splits and scores when they are first needed. If its folder was
deleted and trained anew meanwhile, they would be of another run than the rest.
"""

import typing
from pathlib import Path

from hybrid_jax.checkpoints import manifest
from hybrid_jax.checkpoints.reader import Steps
from hybrid_jax.runs.folder import RunFolder

if typing.TYPE_CHECKING:
    from hybrid_jax.runs.run import Run


def manifest_sums(workdir: Path | None, steps: Steps) -> dict[int, str]:
    """Return the SHA-256 sums of the manifests of a run's checkpoints, by step.

    Args:
      workdir: the run's folder; None if there is none, and so no checkpoint.
      steps: steps of the run's weights.
    """
    if workdir is None:
        return {}
    found = {
        step: manifest.checksum(RunFolder(workdir).checkpoints / str(step))
        for step in ((steps,) if isinstance(steps, int) else steps)
    }
    return {step: known for step, known in found.items() if known}


def check(run: "Run") -> None:
    """Refuse a folder that no longer holds the checkpoints of a run.

    Raises:
      UserError: they are gone, or others have taken their place.
    """
    for step, known in run.manifest_sums.items():
        assert run.workdir
        manifest.check_same(RunFolder(run.workdir).checkpoints / str(step), known)
