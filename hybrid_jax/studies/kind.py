"""The type of a kind of study, a row of `study.KINDS`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hybrid_jax.config.schema import Config
from hybrid_jax.studies.results import UNVARIED, Results

Configs = Mapping[str, Config]  # by the name of the model or variant


def with_seed(config: Config, offset: int) -> Config:
    """Return the config with a later seed, which also selects other images.

    With a protocol, all seeds have the protocol's images.

    Args:
      config: config of the first seed.
      offset: added to the seed.
    """
    seeds = {"seed": config.seed + offset}
    if config.data.protocol == "none":
        seeds["data.split_seed"] = config.data.split_seed + offset
    return config.replace(seeds)


class Axis(NamedTuple):
    """The quantity that the runs of one model vary, beside their seed.

    Attributes:
      flag: flag of the command for the values.
      name: name of the quantity in figures and sentences.
      values: default values.
      whole: whether the values are whole numbers.
    """

    flag: str
    name: str
    values: tuple[float, ...]
    whole: bool


class Kind(NamedTuple):
    """A kind of study: a question that many runs answer.

    Attributes:
      name: name of the study.
      split: split on which accuracy is measured.
      configure: returns the config of a run at a value; the caller sets the seed.
      check: refuses configs, values and a number of seeds that cannot answer the
        question.
      conclude: returns sentences about the results.
      draw: draws the results into files of several formats; the path has no suffix.
      figure: name of these files.
      axis: quantity that the runs of a model vary; None if only their seeds differ.
      variants: fields of each variant, if variants of one model are compared; empty if
        several models are compared.
      costs: whether the study measures what each model costs.
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
        """Return the flags that this study takes, but some other studies do not."""
        models = "of" if self.variants else "models"
        return {models} | ({self.axis.flag} if self.axis else set())
