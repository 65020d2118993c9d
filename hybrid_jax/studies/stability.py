"""Study at which learning rates a model trains, and how much its seeds scatter."""

import dataclasses
import functools
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import stats

from hybrid_jax.config.schema import Config, DataConfig
from hybrid_jax.console import percent
from hybrid_jax.errors import UserError, plural
from hybrid_jax.intervals import mean
from hybrid_jax.studies import figures
from hybrid_jax.studies.kind import Axis, Configs, Kind, with_seed
from hybrid_jax.studies.results import Part, Results
from hybrid_jax.sweeps.runs import REFUSED, load_splits

AXIS = "times the config's learning rate"
SIGNIFICANCE = 0.01  # level of the test whether a run has learned anything
TOLERANCE = 0.01  # accuracy below the best at which a rate counts as equally good
NOTHING = "learned nothing"


def configure(config: Config, factor: float) -> Config:
    """Return the config of a run at a multiple of the rate, without a test."""
    return config.replace(
        {
            "optim.learning_rate": config.optim.learning_rate * factor,
            "data.test": False,
            "train.checkpoint": "last",
            "train.patience": 0,
        }
    )


def check(configs: Configs, factors: tuple[float, ...], seeds: int) -> None:
    """Refuse data whose validation split cannot tell learning from guessing.

    Raises:
      UserError: there is no validation split, or it has too few images.
    """
    config = configure(next(iter(configs.values())), factors[0])
    if "validation" not in load_splits(config.data):
        raise UserError(
            "config.data.validation=0 leaves nothing to measure on: take a share of "
            "the training images, such as --config.data.validation=0.2"
        )
    counts = _validation_counts(config.data)
    if not _has_learned(1.0, counts):
        raise UserError(
            f"{plural(int(counts.sum()), 'validation image')} could not tell learning "
            "from guessing: take a larger share, such as --config.data.validation=0.5"
        )


def failures(results: Results, configs: Configs) -> dict[Part, str]:
    """Return the failed runs, each with its failure: its state, or `NOTHING`.

    A run has learned nothing if its accuracy is not significantly above that of always
    predicting the largest class (binomial test). A refused run has not failed, since it
    was never trained.
    """
    config = configure(next(iter(configs.values())), 1.0)
    found = {}
    for part, outcome in _trained(results).outcomes.items():
        accuracy = results.accuracy(part)
        if accuracy is None:
            found[part] = outcome.state
            continue
        data = with_seed(config, part.seed - config.seed).data
        if not _has_learned(accuracy, _validation_counts(data)):
            found[part] = NOTHING
    return found


def _trained(results: Results) -> Results:
    """Return the results without refused runs, which tell nothing of a rate."""
    items = results.outcomes.items()
    tried = {part: outcome for part, outcome in items if outcome.state != REFUSED}
    return dataclasses.replace(results, outcomes=tried)


@functools.lru_cache
def _validation_counts(config: DataConfig) -> np.ndarray:
    """Return the number of validation images of each class, int64 `[classes]`."""
    return np.bincount(load_splits(config)["validation"].labels)


def _has_learned(accuracy: float, counts: np.ndarray) -> bool:
    images = int(counts.sum())
    test = stats.binomtest(
        round(accuracy * images), images, counts.max() / images, alternative="greater"
    )
    return bool(test.pvalue < SIGNIFICANCE)


def conclude(results: Results, configs: Configs) -> list[str]:
    """Return lines on the failed runs of each model, and its range of good rates."""
    failed, trained = failures(results, configs), _trained(results)
    lines = []
    for model in results.models:
        if model in trained.models:
            lines.append(f"{model}: {_failures(trained, model, failed)}")
        if told := _range(trained, model, failed):
            lines.append(f"{model}: {told}")
        if told := _refused(results, model):
            lines.append(f"{model}: {told}")
    return lines


def draw(results: Results, configs: Configs, path: Path) -> None:
    """Draw the share of failed runs, and below it the accuracy of the other runs."""
    failed, results = failures(results, configs), _trained(results)
    with figures.axes(path, 2) as (above, below):
        models = results.models
        for style, model in zip(figures.styles(len(models)), models, strict=True):
            shares = {
                value: _share_of_failed(results, model, value, failed)
                for value in results.values
                if any(results.at(model, value))
            }
            above.plot(
                [value * style.shift for value in shares],
                [100 * share for share in shares.values()],
                label=model,
                color=style.color,
                marker=style.marker,
                markersize=4,
            )
            points = _learned(results, model, failed)
            for value, found in points.items():
                dots = [100 * share for share in found]
                x = [value * style.shift] * len(dots)
                below.scatter(x, dots, 9, style.color, alpha=0.5)
            figures.draw_means(below, points.items(), model, style)
        above.set_ylabel("failed runs (%)")
        above.set_ylim(-4, 104)
        above.legend(frameon=False)
        below.set_ylabel("validation accuracy\nof the other runs (%)")
        if not below.collections:
            figures.say_empty(below, "all runs failed")
        figures.label_values(below, results.values, AXIS)


def _learned(
    results: Results, model: str, failed: dict[Part, str]
) -> dict[float, list[float]]:
    """Return the accuracies of the runs that did not fail, at each value."""
    found = {}
    for value in results.values:
        runs = (p for p in results.at(model, value) if p not in failed)
        shares = [share for p in runs if (share := results.accuracy(p)) is not None]
        if shares:
            found[value] = shares
    return found


def _share_of_failed(
    results: Results, model: str, value: float, failed: dict[Part, str]
) -> float:
    return mean([float(part in failed) for part in results.at(model, value)])


def _failures(results: Results, model: str, failed: dict[Part, str]) -> str:
    """Say how many runs failed, how, and at which values."""
    parts = [part for part in results.outcomes if part.model == model]
    ours = [part for part in parts if part in failed]
    if not ours:
        return f"none of {len(parts)} runs failed"
    kinds = Counter(failed[part] for part in ours)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    where = Counter(part.value for part in sorted(ours, key=lambda part: part.value))
    at = ", ".join(
        f"{count} of {len([*results.at(model, value)])} at {value:g}"
        for value, count in where.items()
    )
    return f"{len(ours)} of {len(parts)} runs failed ({told}): {at} {AXIS}"


def _refused(results: Results, model: str) -> str:
    """Say how many runs were refused, and why the first was; empty if none was."""
    outcomes = [o for part, o in results.outcomes.items() if part.model == model]
    errors = [outcome.error for outcome in outcomes if outcome.state == REFUSED]
    if not errors:
        return ""
    was = "was" if len(errors) == 1 else "were"
    return f"{plural(len(errors), 'run')} {was} refused, and left out: {errors[0]}"


def _range(results: Results, model: str, failed: dict[Part, str]) -> str:
    """Say which rates are as good as the best, and how much seeds scatter.

    Only rates at which no run failed count.
    """
    points = {
        value: found
        for value, found in _learned(results, model, failed).items()
        if not _share_of_failed(results, model, value, failed)
    }
    if not points:
        return ""
    best = max(points, key=lambda value: mean(points[value]))
    good = [
        value
        for value, found in points.items()
        if mean(found) >= mean(points[best]) - TOLERANCE
    ]
    text = f"the best mean is {percent(mean(points[best]))}, at {best:g}"
    if len(good) > 1:
        text += f"; within a point of it at {', '.join(f'{v:g}' for v in good)} {AXIS}"
    spreads = [statistics.stdev(found) for found in points.values() if len(found) > 1]
    if spreads:
        points_of = 100 * statistics.median(spreads)
        text += f"; seeds scatter by {points_of:.1f} points (standard deviation)"
    return text


STABILITY = Kind(
    name="stability",
    axis=Axis("rates", AXIS, (0.1, 0.3, 1, 3, 10, 30), whole=False),
    split="validation",
    configure=configure,
    check=check,
    conclude=conclude,
    draw=draw,
    figure="stability",
)
