"""Average the probabilities of several runs on the same images.

Source: Lakshminarayanan et al. 2017, Simple and scalable predictive uncertainty
estimation using deep ensembles.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hybrid_jax.errors import UserError
from hybrid_jax.runs.derived_run import with_views
from hybrid_jax.runs.folder import RunFolder
from hybrid_jax.runs.load_run import open_run
from hybrid_jax.runs.prediction import Prediction
from hybrid_jax.runs.run import Run


def open_member(first: Run, workdir: str, changed: dict[str, Any] | None = None) -> Run:
    """Open another run of the same classes, with views if the first one has them.

    A member that was trained without a symmetry has no views, and notes it.

    Args:
      first: the first run of the ensemble.
      workdir: folder of the other run.
      changed: config fields to change, by name.

    Raises:
      UserError: the folder holds no run, or a run of other classes.
    """
    run = open_run(RunFolder(workdir), None, changed or {})
    if run.classes != first.classes:
        difference = (
            f"has the classes of {first.workdir} in another order"
            if sorted(run.classes) == sorted(first.classes)
            else f"was trained on other classes than {first.workdir}"
        )
        raise UserError(f"{workdir} {difference}: give runs of one data set")
    if first.has_views and run.config.augment.symmetry == "none":
        run.notes.append(f"{workdir} has no views (augment.symmetry=none)")
        return run
    return with_views(run) if first.has_views else run


def predict_together(
    runs: Sequence[Run], paths: Sequence[str | os.PathLike], batch_size: int
) -> Iterator[Prediction]:
    """Yield the mean of the runs' predictions of each file; see `Run.predict_files`."""
    each = (run.predict_files(paths, batch_size) for run in runs)
    return map(_mean, zip(*each, strict=True))


def _mean(predictions: Sequence[Prediction]) -> Prediction:
    """Return the mean of several runs' predictions of one file, as `evaluate` does.

    If a run cannot read the file, the result has its error.
    """
    differences = dict.fromkeys(d for p in predictions for d in p.differences)
    for prediction in predictions:
        if prediction.error:
            return prediction._replace(differences=(*differences,))
    probabilities = np.mean([np.asarray(p.probabilities) for p in predictions], 0)
    return Prediction(predictions[0].path, probabilities, "", (*differences,))
