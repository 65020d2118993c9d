"""What makes a kind of study: a row of `study.KINDS`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.config.schema import Config
from hybrid_jax.studies.results import UNVARIED, Results

Configs = Mapping[str, Config]  # by model


def with_seed(config: Config, offset: int) -> Config:
    """Return the config of a later seed, which draws other images too.

    A protocol says itself which images they are.
    """
    seeds = {"seed": config.seed + offset}
    if config.data.protocol == "none":
        seeds["data.split_seed"] = config.data.split_seed + offset
    return config.replace(seeds)


class Axis(NamedTuple):
    """What the runs of one model differ in, beside their seed.

    Attributes:
      flag: of the command, which takes the values.
      name: what they are, in figures and sentences.
      values: the default ones.
      whole: whether they are whole numbers.
    """

    flag: str
    name: str
    values: tuple[float, ...]
    whole: bool


class Kind(NamedTuple):
    """A question that many runs answer.

    Attributes:
      name: of the study.
      split: which one measures the runs.
      configure: returns the config of a run at a value; the seed is set by others.
      check: refuses what runs of these configs at these values, with so many seeds,
        could not answer.
      conclude: says in lines what the results mean.
      draw: draws them, into files of several formats at a path without a suffix.
      figure: the name of these files.
      axis: what the runs of a model differ in; None if that is their seed alone.
      variants: the fields that make each variant of one model, if variants of one are
        compared and not several models.
      costs: whether the answer takes what each model costs.
    """

    name: str
    split: str
    configure: Callable[[Config, float], Config]
    check: Callable[[Configs, tuple[float, ...], int], None]
    conclude: Callable[[Results, Configs], list[str]]
    draw: Callable[[Results, Configs, Path], None]
    figure: str
    axis: Axis | None = None
    variants: Mapping[str, Mapping[str, Any]] = {}
    costs: bool = False

    @property
    def values(self) -> tuple[float, ...]:
        """Return the default values of the axis."""
        return self.axis.values if self.axis else (UNVARIED,)

    @property
    def flags(self) -> set[str]:
        """Return the flags that this study takes and not every other one."""
        models = "of" if self.variants else "models"
        return {models} | ({self.axis.flag} if self.axis else set())
