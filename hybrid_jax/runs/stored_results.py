"""Read a run's results.json: which checkpoint was tested, and its metrics."""

import numbers
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid_jax.errors import UserError
from hybrid_jax.json_files import read_json


def read_results(path: Path) -> dict[str, Any]:
    """Read the results of a run.

    Args:
      path: the file, in the folder of the run.

    Raises:
      UserError: the file is damaged; says how to write it again.
    """
    workdir = path.parent
    again = f"delete it: `hybrid-jax train --workdir={workdir}` writes it again"
    found = read_json(path, again)
    if wrong := unreadable_entry(found):
        raise UserError(f"{path} has an unreadable entry {wrong!r}: {again}")
    return found


def unreadable_entry(results: dict[str, Any]) -> str:
    """Return the name of an entry that results cannot have; empty if all are right."""
    given = {name: holds for name, holds in ENTRIES.items() if name in results}
    return next((n for n, holds in given.items() if not holds(results[n])), "")


def _is_step(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _are_metrics(value: Any) -> bool:
    """Return whether a value is a dict of metrics: each a number or one a class.

    Accuracy is a share of 1.
    """
    if not isinstance(value, dict) or not {"accuracy", "class_accuracy"} <= {*value}:
        return False
    lists = [metric for metric in value.values() if isinstance(metric, list)]
    others = [metric for metric in value.values() if not isinstance(metric, list)]
    return (
        isinstance(value["class_accuracy"], list)
        and all(x is None or _is_number(x) for found in lists for x in found)
        and all(map(_is_number, others))
        and _is_number(value["accuracy"])
        and 0 <= value["accuracy"] <= 1
    )


ENTRIES: dict[str, Callable[[Any], bool]] = {
    "step": _is_step,
    "checkpoint": _is_step,
    "weights": lambda value: value in ("last", "best"),
    "seconds": _is_number,
    "validation": _are_metrics,
    "test": _are_metrics,
}
