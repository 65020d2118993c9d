"""The last word of a run: a table of what it reached."""

from ml_collections import ConfigDict

from hybrid_jax.engine.checkpoint import Checkpoints
from hybrid_jax.engine.console import Reporter, duration, percent
from hybrid_jax.engine.run_folder import Workdir


def report(
    reporter: Reporter, checkpoints: Checkpoints, config: ConfigDict, folder: Workdir
) -> dict[str, float]:
    """Prints the results of the newest checkpoint, and returns its metrics."""
    step = checkpoints.latest()
    final = checkpoints.metrics(step)
    best_step, best = checkpoints.best()
    rows = metric_rows(final) | {
        "best accuracy": f"{percent(best['accuracy'])} at step {best_step:,}",
        "steps": f"{step:,}",
        "training time": duration(final["seconds"]),
        "workdir": str(folder.path),
    }
    reporter.table(f"{config.model.name} on {config.data.name}", rows)
    return final


def metric_rows(tested: dict[str, float]) -> dict[str, str]:
    """The metrics of a test split, worded."""
    return {
        "test accuracy": percent(tested["accuracy"]),
        "test top-5 accuracy": percent(tested["top5"]),
        "test loss": f"{tested['loss']:.4f}",
    }
