"""Print the results of a run as a table, and say which split chose the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybrid_jax.console import Reporter, duration, percent
from hybrid_jax.programs.experiment import Experiment
from hybrid_jax.training.metrics import with_titles


def report(
    console: Reporter, found: dict, experiment: Experiment, path: Path | None
) -> None:
    """Print the results of a run.

    Args:
      console: prints the table.
      found: the results, as `Loop.run` returns them.
      experiment: the run's experiment.
      path: the run's folder, or None.
    """
    rows = {"tested weights": f"step {found['checkpoint']:,}, {chosen_by(found)}"}
    for split in ("validation", "test"):
        if split in found:
            rows |= metric_rows(split, found[split])
    if "test" not in found:
        is_left_out = not experiment.config.data.test
        rows["test accuracy"] = (
            "not looked at (data.test=False)" if is_left_out else "no test split"
        )
    rows |= {
        "steps": f"{found['step']:,}",
        "time after start-up": duration(found["seconds"]),
    }
    if path:
        rows["workdir"] = str(path)
    config = experiment.config
    console.table(f"{config.model.name} on {experiment.splits.name}", rows)


def chosen_by(results: Mapping[str, Any]) -> str:
    """Return in words what chose the weights that a run has tested."""
    if results.get("weights") == "best":
        return "the best on validation"
    if "validation" in results:
        return "the last (train.checkpoint=last)"
    return "the last, without a validation split"


def metric_rows(split: str, values: dict[str, Any]) -> dict[str, str]:
    """Return the metrics of a split as text; `split` is empty for other images."""
    shown = with_titles(values, len(values["class_accuracy"]))
    return {
        f"{split} {row.title}".strip(): (
            percent(values[name]) if row.is_share else f"{values[name]:.4f}"
        )
        for name, row in shown.items()
    }
