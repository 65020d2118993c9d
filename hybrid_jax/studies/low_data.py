"""Study how accuracy grows with the number of training images in each class."""

import math
from pathlib import Path

import numpy as np

from hybrid_jax.config.schema import Config
from hybrid_jax.console import percent
from hybrid_jax.errors import UserError, plural
from hybrid_jax.intervals import mean
from hybrid_jax.studies import comparison, figures
from hybrid_jax.studies.kind import Axis, Configs, Kind, with_seed
from hybrid_jax.studies.power_law import PowerLaw, fit_power_law
from hybrid_jax.studies.requirements import (
    require_equal_budgets,
    require_test_split,
)
from hybrid_jax.studies.results import Results
from hybrid_jax.sweeps.runs import load_splits

AXIS = "images a class"
POINT = 0.01  # one point of accuracy


def configure(config: Config, per_class: float) -> Config:
    """Return the config of a run that trains on all its images and chooses nothing."""
    return config.replace(
        {
            "data.per_class": int(per_class),
            "data.validation": 0,
            "data.test": True,
            "train.patience": 0,
        }
    )


def check(configs: Configs, values: tuple[float, ...], seeds: int) -> None:
    """Refuse runs of unequal length, and data without a test split or enough images.

    Raises:
      UserError: names the field or the class.
    """
    for config in configs.values():
        _check_lengths(config)
    require_equal_budgets(configs)
    first = configure(next(iter(configs.values())), values[-1])
    for offset in range(seeds):
        _check_images(with_seed(first, offset), values)


def _check_lengths(config: Config) -> None:
    """Refuse lengths in epochs, which differ with the number of images."""
    lengths = {
        "train.epochs": (not config.train.steps, "train.steps=2000"),
        "optim.warmup_epochs": (
            config.optim.warmup_epochs and not config.optim.warmup_steps,
            "optim.warmup_steps=100",
        ),
        "optim.decay_epochs": (config.optim.decay_epochs, "optim.schedule=cosine"),
    }
    wrong = {name: way for name, (is_wrong, way) in lengths.items() if is_wrong}
    if wrong:
        flags = " ".join(f"--config.{way}" for way in wrong.values())
        raise UserError(
            f"lengths in epochs grow with the images (config.{', config.'.join(wrong)})"
            f": give all runs the same, with {flags}"
        )


def _check_images(config: Config, values: tuple[float, ...]) -> None:
    """Refuse data without a test split, or with too few images of a class."""
    splits = load_splits(config.data)
    require_test_split(splits)
    counts = np.bincount(splits.train.labels, minlength=len(splits.classes))
    fewest = int(counts.argmin())
    if counts[fewest] < values[-1]:
        raise UserError(
            f"--per-class={','.join(f'{value:g}' for value in values)}: class "
            f"{splits.classes[fewest]!r} has only "
            f"{plural(int(counts[fewest]), 'training image')}: give smaller numbers"
        )


def laws(results: Results) -> dict[str, PowerLaw | None]:
    """Return the power law of each model's mean errors; None if it cannot be fitted."""
    found = {}
    for model in results.models:
        points = results.points(model)
        errors = [1 - mean(shares) for shares in points.values()]
        found[model] = fit_power_law([*points], errors)
    return found


def conclude(results: Results, configs: Configs) -> list[str]:
    """Say where the first model overtakes the others, and what the next point takes."""
    first, *twins = results.models
    lines = [
        comparison.in_words(
            first, twin, comparison.differences(results, first, twin), AXIS
        )
        for twin in twins
    ]
    for model, law in laws(results).items():
        lines += comparison.left_out(results, model, AXIS)
        lines.append(_next_point(results, model, law))
    return lines


def draw(results: Results, configs: Configs, path: Path) -> None:
    """Draw accuracy against images, with 95 % intervals and the power laws dashed."""
    fitted = laws(results)
    with figures.axes(path, 1) as (axes,):
        models = results.models
        for style, model in zip(figures.styles(len(models)), models, strict=True):
            figures.draw_means(axes, results.points(model).items(), model, style)
            if law := fitted[model]:
                images = np.geomspace(results.values[0], results.values[-1], 50)
                shares = 100 * (1 - np.asarray(law.error(images)))
                axes.plot(images, shares, color=style.color, ls="--", lw=0.8)
        if any(fitted.values()):
            label = "power law of the error"
            axes.plot([], [], color="gray", ls="--", lw=0.8, label=label)
        axes.set_ylim(top=min(axes.get_ylim()[1], 101))
        figures.label_values(axes, results.values, AXIS)
        axes.set_ylabel(figures.accuracy_label(results))
        axes.legend(frameon=False)


def _next_point(results: Results, model: str, law: PowerLaw | None) -> str:
    """Say how many images the next point of accuracy would take."""
    if not law:
        return (
            f"{model}: no power law is fitted, since that takes three sizes with errors"
        )
    images, shares = max(results.points(model).items())
    accuracy = mean(shares)
    error = 1 - accuracy
    rate = f"{law.exponent:z.3f} ({law.low:z.3f} to {law.high:z.3f})"
    text = f"{model}: error ~ images^-b with b = {rate}"
    if law.exponent <= 0:
        return f"{text}; more images did not lower the error"
    if error < 2 * POINT:
        return f"{text}; less than two points of error are left at {images:g} {AXIS}"
    likely, least, most = law.images_for(error, images, error - POINT)
    return (
        f"{text}; one point more than the {percent(accuracy)} of {images:g} {AXIS} "
        f"would take about {_count(likely)} ({_count(least)} to {_count(most)})"
    )


def _count(images: float) -> str:
    return "more than there are" if math.isinf(images) else f"{math.ceil(images):,}"


LOW_DATA = Kind(
    name="low-data",
    axis=Axis("per-class", AXIS, (10, 25, 50, 100, 250, 500), whole=True),
    split="test",
    configure=configure,
    check=check,
    conclude=conclude,
    draw=draw,
    figure="curve",
)
