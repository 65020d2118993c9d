"""Compare several runs in a page: their configs and their accuracies."""

import itertools
from collections.abc import Sequence
from typing import Any

from hybrid_jax.config.schema import FIELDS
from hybrid_jax.evaluation.comparison import compare
from hybrid_jax.evaluation.evaluate import Evaluation
from hybrid_jax.evaluation.report import compared
from hybrid_jax.intervals import in_words
from hybrid_jax.reports.facts import HASHES, value_in_words
from hybrid_jax.reports.gather import RunReport

SEED = "seed"


def _settings(report: RunReport) -> dict[str, Any]:
    """Return the fields that a result depends on, by name."""
    flat = report.run.config.flat()
    return {name: flat[name] for name in flat if not FIELDS[name].free}


def _hashes(report: RunReport) -> list[str]:
    """Return what identifies the images of a run, wherever they lie."""
    return [report.identity.get(title, "unknown") for title in HASHES.values()]


def differing_fields(reports: Sequence[RunReport]) -> list[list[str]]:
    """Return name and values of each field that tells some of the runs apart.

    If their images differ, the first row names the data sets, with the first digits of
    the hashes of labels and files.
    """
    settings, rows = [*map(_settings, reports)], []
    if any(_hashes(report) != _hashes(reports[0]) for report in reports):
        told = [
            f"{report.run.config.data.title} "
            f"({', '.join(known[:7] for known in _hashes(report))})"
            for report in reports
        ]
        rows.append(["images", *told])
    return rows + [
        [name, *(value_in_words(each[name]) for each in settings)]
        for name in settings[0]
        if any(each[name] != settings[0][name] for each in settings)
    ]


def over_seeds(reports: Sequence[RunReport]) -> list[list[str]]:
    """Return mean accuracies with 95 % intervals over runs that differ in seed alone.

    Returns:
      Workdirs, number of runs, and mean with interval, for each group of two or more
      such runs of the same data that were judged on the same kind and number of images.
    """

    def key(report: RunReport) -> str:
        # The path of the data is no setting, but other data are another experiment.
        about = {SEED: None, "judged": report.judged, "data": _hashes(report)}
        return repr(_settings(report) | about)

    rows = []
    measured = [report for report in reports if report.accuracy is not None]
    for _, found in itertools.groupby(sorted(measured, key=key), key):
        group = [*found]
        seeds = {report.run.config.seed for report in group}
        if len(group) > 1 and len(seeds) == len(group):
            accuracies = [r.accuracy.value for r in group if r.accuracy]
            names = ", ".join(report.workdir for report in group)
            rows.append([names, str(len(group)), in_words(accuracies)])
    return rows


def against_first(reports: Sequence[RunReport]) -> list[list[str]]:
    """Return each other run, and its paired difference to the first run in words."""
    first, *others = reports
    rows = []
    for other in others:
        words = "not on the same images"
        if _are_same(first.evaluation, other.evaluation):
            assert first.evaluation and other.evaluation
            found = other.evaluation.predictions, first.evaluation.predictions
            words = compared(compare(*found))
        rows.append([other.workdir, words])
    return rows


def _are_same(first: Evaluation | None, second: Evaluation | None) -> bool:
    """Return whether two evaluations are of the same images, by names and labels."""
    if first is None or second is None or first.classes != second.classes:
        return False
    labels = first.predictions.labels.tolist(), second.predictions.labels.tolist()
    return first.names == second.names and labels[0] == labels[1]
