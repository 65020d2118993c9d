"""Compare variants of one model, seed by seed, to see what one part is worth."""

from pathlib import Path

from hybrid_jax.errors import plural
from hybrid_jax.plots import COLORS, saved_axes
from hybrid_jax.studies import comparison, costs, figures, scaling
from hybrid_jax.studies.comparison import AHEAD, BEHIND, Difference
from hybrid_jax.studies.costs import MEASURES
from hybrid_jax.studies.kind import Configs, Kind
from hybrid_jax.studies.results import Results
from hybrid_jax.studies.variants import ABLATIONS

VERDICTS = {AHEAD: "better", BEHIND: "worse"}


def conclude(results: Results, configs: Configs) -> list[str]:
    """Return lines that compare each variant with the first in accuracy and cost."""
    first, *others = configs
    lines = costs.about(results.costs)
    for variant in configs:
        lines += comparison.left_out(results, variant)
    for variant in others:
        found = comparison.differences(results, variant, first)
        told = _verdict(results, found, variant, first)
        lines.append(f"{variant} {told}{_relative_cost(results, variant, first)}")
    return lines


def _verdict(
    results: Results, found: list[Difference], variant: str, first: str
) -> str:
    """Say whether a variant is better or worse than the first, or not told apart."""
    if not found:
        return f"shares no seed with {first}, so they cannot be compared"
    (difference,) = found
    seeds = results.accuracies(variant).keys() & results.accuracies(first).keys()
    count = plural(len(seeds), "seed")
    points = f"{comparison.in_points(difference)} points"
    if difference.is_constant:
        points += " in each of them"
    if difference.seeds == 1:
        return f"differs from {first} by {points}; one seed tells nothing of the spread"
    if difference.verdict in VERDICTS:
        return f"is {VERDICTS[difference.verdict]} than {first}, by {points} ({count})"
    return f"cannot be told apart from {first} with {count}: {points}"


def _relative_cost(results: Results, variant: str, first: str) -> str:
    """Say how many times the cost of the first variant another variant has."""
    if not {variant, first} <= results.costs.keys():
        return ""
    told = []
    for measure in MEASURES:
        ours, theirs = (measure.of(results.costs[name]) for name in (variant, first))
        if ours and theirs:
            told.append(f"{ours / theirs:.2f} ({measure.name})")
    return f". It costs {', '.join(told)} times as much"


def draw(results: Results, configs: Configs, path: Path) -> None:
    """Draw the difference of each variant to the first, with 95 % intervals."""
    first, *others = configs
    with saved_axes(path, (6.4, 1.5 + 0.4 * len(others))) as (axes,):
        for row, variant in enumerate(others):
            found = comparison.differences(results, variant, first)
            ours, theirs = results.accuracies(variant), results.accuracies(first)
            runs = [
                100 * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs
            ]
            axes.scatter(runs, [row] * len(runs), 14, COLORS[0], alpha=0.5)
            for difference in found:
                low, high = difference.interval or (difference.mean, difference.mean)
                axes.errorbar(
                    100 * difference.mean,
                    row,
                    xerr=50 * (high - low),
                    color=COLORS[0],
                    marker="D",
                    markersize=5,
                    capsize=3,
                )
        axes.axvline(0, color="gray", lw=0.9)
        axes.set_yticks(range(len(others)), others)
        axes.set_ylim(len(others) - 0.5, -0.5)
        axes.set_xlabel(
            f"points of test accuracy more than {first}\n"
            + ("" if len(results.seeds) == 1 else "seeds, ")
            + figures.shown(results)
        )


ABLATION = "ablation"
KINDS = tuple(
    Kind(
        name=f"{ABLATION}-{name}",
        split="test",
        configure=scaling.configure,
        check=scaling.check,
        conclude=conclude,
        draw=draw,
        figure=ABLATION,
        variants=variants,
        costs=True,
    )
    for name, variants in ABLATIONS.items()
)
