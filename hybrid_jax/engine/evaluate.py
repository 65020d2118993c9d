"""Evaluation of a finished run, on its own splits or on other images, with a table."""

from typing import Any

from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.engine.console import Reporter
from hybrid_jax.engine.experiment import set_up_process
from hybrid_jax.engine.results import metric_rows
from hybrid_jax.engine.run import open_run
from hybrid_jax.engine.run_folder import RunFolder
from hybrid_jax.errors import counted, shown


def evaluate(
    workdir: str,
    config: Config | None = None,
    changed: dict[str, Any] | None = None,
    checkpoint: str | int | None = None,
    split: str = "",
    images: str = "",
    on_error: str = "stop",
) -> dict[str, float]:
    """Evaluates a checkpoint of a run, and prints the results.

    Args:
      workdir: the run's folder; nothing is written to it.
      config: of the run, which is compared with the stored one; None takes that.
      changed: fields of the stored config that have other values here, such as where
        the data lie; those that decide what a run computes cannot be changed.
      checkpoint: see `load_run`.
      split: `train`, `validation` or `test`; empty is the test split, or validation
        where there is none, and all images of a folder that has no splits.
      images: a folder or a table of other images; empty evaluates the run's own.
      on_error: `stop`, or `skip` those of them that cannot be read.

    Returns:
      Loss, accuracy and top-5 accuracy.

    Raises:
      UserError: no run there, another config's, no such checkpoint or split, or images
        that cannot be read.
    """
    folder = RunFolder(workdir)
    if config is not None:
        resumed, _ = folder.resume(set_up_process(config))
        flat = resumed.flat()
        changed = {name: flat[name] for name in flat if FIELDS[name].free}
    run = open_run(folder, checkpoint, changed or {})
    with Reporter() as console:
        if images:
            chosen = run.open_images(images, split, on_error)
            where = shown(images)
        else:
            split = split or ("test" if "test" in run.splits else [*run.splits][-1])
            chosen, where = run.get_split(split), run.splits.name
        for note in run.notes:
            console.say(note)
        tested = run.evaluate(chosen)
        title = (
            f"{run.config.model.name} on {where}, {counted(len(chosen), 'image')}, "
            f"step {run.checkpoint:,}"
        )
        console.table(title, metric_rows(split, tested))
    return tested
