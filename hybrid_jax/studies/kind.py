"""What makes a kind of study: a row of `study.KINDS`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from hybrid_jax.config.schema import Config
from hybrid_jax.studies.results import Results

Configs = Mapping[str, Config]  # by model


def with_seed(config: Config, offset: int) -> Config:
    """Return the config of a later seed, which draws other images too.

    A protocol says itself which images they are.
    """
    seeds = {"seed": config.seed + offset}
    if config.data.protocol == "none":
        seeds["data.split_seed"] = config.data.split_seed + offset
    return config.replace(seeds)


class Kind(NamedTuple):
    """A question that many runs answer.

    Attributes:
      flag: of the command, which takes the values that runs differ in.
      axis: what the values are, in figures and sentences.
      values: the default ones.
      whole: whether values are whole numbers.
      split: which one measures the runs.
      configure: returns the config of a run at a value; the seed is set by others.
      check: refuses what runs of these configs at these values, with so many seeds,
        could not answer.
      conclude: says in lines what the results mean.
      draw: draws them, into files of several formats at a path without a suffix.
      figure: the name of these files.
    """

    flag: str
    axis: str
    values: tuple[float, ...]
    whole: bool
    split: str
    configure: Callable[[Config, float], Config]
    check: Callable[[Configs, tuple[float, ...], int], None]
    conclude: Callable[[Results, Configs], list[str]]
    draw: Callable[[Results, Configs, Path], None]
    figure: str
