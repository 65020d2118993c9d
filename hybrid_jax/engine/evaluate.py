"""Evaluate a run on its own splits or on other images, and print a table."""

from typing import Any

from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.engine.console import Reporter
from hybrid_jax.engine.experiment import set_up_process
from hybrid_jax.engine.load_run import open_run
from hybrid_jax.engine.results import metric_rows
from hybrid_jax.engine.run_folder import RunFolder
from hybrid_jax.errors import escape, plural


def evaluate(
    workdir: str,
    config: Config | None = None,
    changed: dict[str, Any] | None = None,
    checkpoint: str | int | None = None,
    split: str = "",
    images: str = "",
    on_error: str = "stop",
) -> dict[str, Any]:
    """Evaluate a checkpoint of a run, and print the results.

    Args:
      workdir: folder of the run; nothing is written to it.
      config: refuse a run of another config than this one; None accepts any.
      changed: fields of the stored config that have other values here, by name, such as
        the path of the data. Fields that change results are refused.
      checkpoint: `best` on validation, `last`, a step, or None for the tested one.
      split: `train`, `validation` or `test`. Empty means the test split, or validation
        if there is no test split, or all images of a folder without splits.
      images: folder or table of other images; empty evaluates the run's own.
      on_error: `stop` at other images that cannot be read, or `skip` them.

    Returns:
      Loss in nats, accuracy and top-5 accuracy.

    Raises:
      UserError: there is no such run, checkpoint or split, the run has another config,
        or images cannot be read.
    """
    folder = RunFolder(workdir)
    if config is not None:
        resumed, _ = folder.resume(set_up_process(config))
        flat = resumed.flat()
        changed = {name: flat[name] for name in flat if FIELDS[name].free}
    run = open_run(folder, checkpoint, changed or {})
    with Reporter() as console:
        if images:
            evaluated = run.open_images(images, split, on_error)
            source = escape(images)
        else:
            split = split or ("test" if "test" in run.splits else [*run.splits][-1])
            evaluated, source = run.get_split(split), run.splits.name
        for note in run.notes:
            console.say(note)
        metrics = run.evaluate(evaluated)
        title = (
            f"{run.config.model.name} on {source}, "
            f"{plural(len(evaluated), 'image')}, step {run.checkpoint:,}"
        )
        console.table(title, metric_rows(split, metrics))
    return metrics
