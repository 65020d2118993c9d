"""Parse the space of a search: ranges and choices of a config's fields."""

import math
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hybrid_jax.config.resolve import read_value
from hybrid_jax.config.schema import FIELDS
from hybrid_jax.config.suggestions import unknown_field
from hybrid_jax.errors import UserError, listed

if typing.TYPE_CHECKING:
    from optuna import Trial

SWEEP = "sweep."  # begins flags such as --sweep.optim.learning_rate
RANGE = re.compile(r"([^:]+):([^:]+)(?::(\w+))?")
NUMBER = re.compile(r"[-+.\w]+")
MOST_POINTS = 10_000  # of a grid
SAME_IMAGES = "trials are compared on the same images and labels"
CHOOSES = "it says how often the best checkpoint is chosen, not how a run is trained"
RESCUES = "it only decides what happens after a loss that is not finite"
# Fields that no search varies, and why. No other free field is varied either.
FIXED = {
    "seed": "--seeds=N runs each trial with N seeds",
    "data.test": "the test split chooses nothing",
    "data.name": SAME_IMAGES,
    "data.path": SAME_IMAGES,
    "data.label": SAME_IMAGES,
    "data.exclude": SAME_IMAGES,
    "data.on_error": SAME_IMAGES,
    "data.group": SAME_IMAGES,
    "data.protocol": SAME_IMAGES,
    "data.test_fraction": SAME_IMAGES,
    "data.split_seed": f"{SAME_IMAGES}; --folds=K runs each trial on K folds",
    "debug.inject": "it breaks a run on purpose",
    "train.eval_every": CHOOSES,
    "train.eval_every_steps": CHOOSES,
    "train.non_finite": RESCUES,
    "train.max_skips": RESCUES,
    "init_checkpoint": "trials start from the same weights",
}
# Fields that select the validation images too, where the data have no split for them.
SELECTING = ("data.validation", "data.fraction", "data.per_class")


class Dimension(NamedTuple):
    """A field that a search varies.

    Attributes:
      name: name of the field.
      choices: allowed values; empty for a range.
      low: least value of a range.
      high: greatest value of a range, which is included.
      log: whether values of a range are drawn on a logarithmic scale.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    @property
    def text(self) -> str:
        """Return the range or the choices as a user can type them."""
        if not self.choices:
            return f"{self.low}:{self.high}{':log' if self.log else ''}"
        return ";".join(map(str, self.choices))

    @property
    def ends(self) -> tuple[Any, ...]:
        """Return the choices, or the least and the greatest value of a range."""
        return self.choices or (self.low, self.high)

    def suggest(self, trial: "Trial") -> Any:
        """Return the field's value in a trial; the first call draws it."""
        if self.choices:
            labels = [label(value) for value in self.choices]
            return self.value_of(trial.suggest_categorical(self.name, labels))
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, self.low, int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def value_of(self, kept: Any) -> Any:
        """Return the field's value from the value that Optuna stores."""
        labels = [label(value) for value in self.choices]
        return self.choices[labels.index(kept)] if self.choices else kept

    @property
    def points(self) -> Sequence[Any] | None:
        """Return all values, as Optuna stores them; None if there is no end to them."""
        if self.choices:
            return [label(value) for value in self.choices]
        is_whole = isinstance(self.low, int)
        return range(int(self.low), int(self.high) + 1) if is_whole else None

    def check_grid(self) -> None:
        """Refuse a range that is no part of a grid.

        Raises:
          UserError: there are infinitely many values, or too many.
        """
        if self.points is None or len(self.points) > MOST_POINTS:
            raise UserError(
                f"--{SWEEP}{self.name}={self.text} is a range, and a grid takes "
                f"choices: give values separated by commas, or another --sampler"
            )


def label(value: Any) -> Any:
    """Return a value as Optuna stores it: a tuple as text, other values as they are."""
    return str(value) if isinstance(value, tuple) else value


def parse_space(texts: Mapping[str, str]) -> tuple[Dimension, ...]:
    """Read a search space.

    Args:
      texts: for each field, `LOW:HIGH`, `LOW:HIGH:log`, or choices separated by commas.
        Choices that contain commas, such as tuples, are separated by semicolons.

    Raises:
      UserError: names the field, its text and what is allowed.
    """
    return tuple(parse_dimension(name, text) for name, text in texts.items())


def parse_dimension(name: str, text: str) -> Dimension:
    """Read the range or the choices of one field; see `parse_space`."""
    if name not in FIELDS:
        raise UserError(f"{unknown_field(name)} (see `hybrid-jax fields`)")
    why = "no result depends on it" if FIELDS[name].free else ""
    if why := FIXED.get(name, why):
        raise UserError(
            f"--{SWEEP}{name}={text} is not allowed: {why}. Set it with --config.{name}"
        )
    types = FIELDS[name].types
    match = RANGE.fullmatch(text.replace(" ", ""))
    is_number = not {str, tuple, bool} & {*types} or name == "data.validation"
    if is_number and match and all(map(NUMBER.fullmatch, match.groups("log"))):
        return _parse_range(name, text, *match.groups())
    separator = ";" if ";" in text or tuple in types else ","
    choices = tuple(read_value(name, part.strip()) for part in text.split(separator))
    for choice in choices:
        if choices.count(choice) > 1:
            raise UserError(f"--{SWEEP}{name}={text} has {choice} twice")
    if len(choices) < 2:
        more = " separated by semicolons" if tuple in types else ""
        raise UserError(
            f"--{SWEEP}{name}={text} is one value: give several{more}, or set it with "
            f"--config.{name}"
        )
    return Dimension(name, choices)


def note_on_images(space: Sequence[Dimension]) -> str:
    """Return a note on fields that change what trials are judged on; empty if none."""
    flags = [f"--{SWEEP}{d.name}" for d in space if d.name in SELECTING]
    if not flags:
        return ""
    return (
        f"The validation images depend on {listed(flags)}, unless the data have a "
        "validation split of their own: trials are compared on different images, and "
        "one may win by easier images"
    )


def _parse_range(
    name: str, text: str, low_text: str, high_text: str, scale: str | None
) -> Dimension:
    low, high = read_value(name, low_text), read_value(name, high_text)
    if not (isinstance(low, int) and isinstance(high, int)):
        low, high = float(low), float(high)
    wrong = ""
    if scale not in (None, "log"):
        wrong = f"{scale} is no scale: write LOW:HIGH or LOW:HIGH:log"
    elif not low < high:
        wrong = f"{low} is not below {high}"
    elif scale and low <= 0:
        wrong = "a range by the logarithm begins above 0"
    elif math.isinf(high):
        wrong = "a range has an end"
    if wrong:
        raise UserError(f"--{SWEEP}{name}={text} is not allowed: {wrong}")
    return Dimension(name, (), low, high, scale == "log")
