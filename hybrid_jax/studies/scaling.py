"""Study how accuracy grows with parameters, MACs, step time and memory of models."""

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hybrid_jax.config.schema import Config
from hybrid_jax.errors import plural
from hybrid_jax.intervals import mean
from hybrid_jax.models.registry import family_of
from hybrid_jax.plots import saved_axes
from hybrid_jax.studies import comparison, costs, figures
from hybrid_jax.studies.costs import MEASURES, Cost, Measure
from hybrid_jax.studies.kind import Configs, Kind
from hybrid_jax.studies.pareto import front
from hybrid_jax.studies.published import Published, count, published_for
from hybrid_jax.studies.requirements import require_equal_budgets, require_test_split
from hybrid_jax.studies.results import Results
from hybrid_jax.sweeps.runs import load_splits

if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes

ALIKE = 2.0  # models of similar cost differ at most by this factor
LEGEND_COLUMNS = 4


def configure(config: Config, value: float) -> Config:
    """Return the config of a run that is tested and does not stop early."""
    return config.replace({"data.test": True, "train.patience": 0})


def check(configs: Configs, values: tuple[float, ...], seeds: int) -> None:
    """Refuse runs of unequal length, and data without a test split.

    Raises:
      UserError: says which field differs, or what is missing.
    """
    require_equal_budgets(configs)
    require_test_split(load_splits(configure(next(iter(configs.values())), 0).data))


def conclude(results: Results, configs: Configs) -> list[str]:
    """Return sentences on the Pareto fronts, the gain by size, and the first family."""
    lines = [*costs.about(results.costs)]
    for model in results.models:
        lines += comparison.left_out(results, model)
        if model not in results.costs:
            lines.append(
                f"{model}: its cost is not known, so it is in no figure; "
                f"{model}/{costs.FILE}, if there is one, says why"
            )
    for measure in MEASURES:
        if len(points := points_of(results, measure)) > 1:
            lines.append(
                f"Pareto front of mean accuracy and {measure.name}, of "
                f"{plural(len(points), 'model')}: {', '.join(front(points))}"
            )
    for family, models in families(results).items():
        lines += _gains(results, family, models)
    first = families(results).get(family_of(results.models[0]), [])
    for model in first:
        lines += _against_alike(results, model, first)
    if len(results.seeds) == 1:
        lines.append(comparison.ONE_SEED)
    others = published_for(next(iter(configs.values())))
    if others:
        sources = dict.fromkeys(point.source for point in others)
        lines.append(
            f"Hollow points are published ({'; '.join(sources)}) and not measured here"
        )
    return lines


def points_of(results: Results, measure: Measure) -> dict[str, tuple[float, float]]:
    """Return the cost and the mean accuracy of each model for which both are known."""
    found = {}
    for model in results.models:
        shares = results.accuracies(model)
        cost = measure.of(results.costs[model]) if model in results.costs else None
        if shares and cost is not None:
            found[model] = cost, mean([*shares.values()])
    return found


def families(results: Results) -> dict[str, list[str]]:
    """Return each family's models with known accuracy and cost, the smallest first."""
    found: dict[str, list[str]] = {}
    known = [name for name in results.models if results.accuracies(name)]
    known = [name for name in known if name in results.costs]
    for model in sorted(known, key=lambda name: results.costs[name].parameters):
        found.setdefault(family_of(model), []).append(model)
    order = dict.fromkeys(map(family_of, results.models))
    return {family: found[family] for family in order if family in found}


def gain_per_doubling(
    results: Results, models: Sequence[str], measure: Measure
) -> list[float]:
    """Return the gain in accuracy with each doubling of the cost, for each seed.

    The gain is the slope of accuracy against the binary logarithm of the cost, by least
    squares.

    Args:
      results: results with costs.
      models: models of one family, with two different costs or more.
      measure: measure of the cost.

    Returns:
      Shares of 1, for each seed that all models share.
    """
    found = [measure.of(results.costs[model]) for model in models]
    x = np.log2([cost for cost in found if cost is not None])
    runs = [results.accuracies(model) for model in models]
    if len(x) < len(models) or np.ptp(x) == 0:
        return []
    seeds = [seed for seed in runs[0] if all(seed in shares for shares in runs)]
    return [
        float(np.polyfit(x, [shares[seed] for shares in runs], 1)[0]) for seed in seeds
    ]


def _gains(results: Results, family: str, models: Sequence[str]) -> list[str]:
    """Return a line on the gain of a family with each doubling of each cost."""
    told = []
    for measure in MEASURES:
        if slopes := gain_per_doubling(results, models, measure):
            gain = comparison.summarize(0, slopes)
            told.append(f"{measure.name} {comparison.in_points(gain)}")
    if not told:
        return []
    return [
        f"{family}, {len(models)} sizes: points of accuracy with each doubling of "
        f"{', '.join(told)}"
    ]


def _against_alike(results: Results, model: str, family: Sequence[str]) -> list[str]:
    """Compare a model with models of similar cost from other families, in lines."""
    lines = []
    for measure in (costs.PARAMETERS, costs.MACS):
        points = points_of(results, measure)
        alike = [
            twin
            for twin, (cost, _) in points.items()
            if twin not in family and 1 / ALIKE <= cost / points[model][0] <= ALIKE
        ]
        if alike:
            lines.append(
                f"{model}, among models of {1 / ALIKE:g} to {ALIKE:g} times its "
                f"{measure.name}, is {comparison.against(results, model, alike)}"
            )
    return lines


def draw(results: Results, configs: Configs, path: Path) -> None:
    """Draw accuracy against each cost, families as lines, and published results."""
    config = next(iter(configs.values()))
    others = _costs_of_published(results, config)
    found = families(results)
    styles = [*figures.styles(len(found))]
    with saved_axes(path, (9.6, 8.4), rows=2, columns=2) as panels:
        for axes, measure in zip(panels, MEASURES, strict=True):
            for style, (family, models) in zip(styles, found.items(), strict=True):
                _draw_family(axes, results, measure, models, family, style)
            _draw_front(axes, points_of(results, measure))
            _draw_published(axes, others, measure)
            figures.label_logarithm(axes, measure.title)
        for axes in panels[::2]:
            axes.set_ylabel(figures.accuracy_label(results))
        panels[0].figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="lower center",
            ncols=LEGEND_COLUMNS,
            frameon=False,
        )


def _draw_family(
    axes: "Axes",
    results: Results,
    measure: Measure,
    models: Sequence[str],
    family: str,
    style: figures.Style,
) -> None:
    points = points_of(results, measure)
    runs = [
        (points[model][0], [*results.accuracies(model).values()])
        for model in models
        if model in points
    ]
    runs.sort(key=lambda point: point[0])
    figures.draw_means(axes, runs, family, style._replace(shift=1.0))


def _draw_front(axes: "Axes", points: Mapping[str, tuple[float, float]]) -> None:
    """Draw a ring around each point of the Pareto front, and join them by steps."""
    ends = [points[name] for name in front(points)]
    axes.plot(
        [cost for cost, _ in ends],
        [100 * accuracy for _, accuracy in ends],
        color="gray",
        ls="--",
        lw=0.9,
        marker="o",
        markersize=11,
        markerfacecolor="none",
        drawstyle="steps-post",
        zorder=1,
        label="Pareto front of means",
    )


def _costs_of_published(results: Results, config: Config) -> dict[Published, Cost]:
    """Return the costs of published networks: measured in the study or counted."""
    return {
        point: results.costs.get(point.model)
        or count(point, config, load_splits(config.data))
        for point in published_for(config)
    }


def _draw_published(
    axes: "Axes", others: Mapping[Published, Cost], measure: Measure
) -> None:
    """Draw published results as hollow points, each with the name of its network."""
    markers = dict(zip(dict.fromkeys(p.source for p in others), "s^Dv", strict=False))
    for source, marker in markers.items():
        points = {
            point: x
            for point, cost in others.items()
            if point.source == source and (x := measure.of(cost)) is not None
        }
        axes.scatter(
            [*points.values()],
            [100 * point.accuracy for point in points],
            marker=marker,
            facecolors="none",
            edgecolors="black",
            label=f"published: {source}",
        )
        for number, (point, x) in enumerate(points.items()):
            axes.annotate(
                point.model,
                (x, 100 * point.accuracy),
                (0, -12 if number % 2 else 6),  # names of neighbors do not overlap
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )


SCALING = Kind(
    name="scaling",
    split="test",
    configure=configure,
    check=check,
    conclude=conclude,
    draw=draw,
    figure="scaling",
    costs=True,
)
