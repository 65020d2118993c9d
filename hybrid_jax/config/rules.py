"""Rules for the values of config fields: a test, and a description in words.

A rule about the rows of a table names the table by its address. So a new row is allowed
at once, even one from outside of this package, and reading a config imports no jax.
"""

import importlib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hybrid_jax.models.strides import SIDE_BITS
from hybrid_jax.paths import LOCAL_ONLY, is_local

PROCESS_BITS = 10  # of the processes that a run or a command starts on a machine


class Rule(NamedTuple):
    """The allowed values of a field.

    Attributes:
      allowed: description in words, or a function that returns it.
      holds: returns whether a value of the right type is allowed.
    """

    allowed: str | Callable[[], str]
    holds: Callable[[Any], bool]

    @property
    def words(self) -> str:
        """Return the allowed values in words."""
        return self.allowed if isinstance(self.allowed, str) else self.allowed()


def whole_number(least: int, bits: int = 31) -> Rule:
    """Allow whole numbers from `least` that are below `2**bits`."""
    return Rule(
        f"a whole number from {least} to below 2**{bits}",
        lambda v: least <= v < 2**bits,
    )


def one_of(*choices: str) -> Rule:
    """Allow some texts."""
    words = f"one of {', '.join(filter(None, choices))}"
    return Rule(
        f"empty, or {words}" if "" in choices else words, lambda v: v in choices
    )


def row_of(address: str, *, off: str = "") -> Rule:
    """Allow the names of a table's rows.

    Args:
      address: `package.module:TABLE`, a mapping.
      off: another allowed name, which stands for no row.
    """

    def names() -> list[str]:
        return [*dict.fromkeys([off, *_table(address)] if off else _table(address))]

    return Rule(lambda: f"one of {', '.join(names())}", lambda v: v in names())


def tuple_of_whole_numbers(meaning: str, holds: Callable[[tuple], bool]) -> Rule:
    """Allow an empty tuple, and tuples of whole numbers that pass a test.

    Args:
      meaning: the allowed values in words.
      holds: the test.
    """

    def whole_and_holds(value: tuple) -> bool:
        return all(type(v) is int for v in value) and (not value or holds(value))

    return Rule(meaning, whole_and_holds)


def _table(address: str) -> Mapping[str, Any]:
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)


def _is_fold(text: str) -> bool:
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    number, folds = map(int, match.groups()) if match else (0, 0)
    return 1 <= number <= folds and folds >= 2


def _is_validation(value: float | str) -> bool:
    return _is_fold(value) if isinstance(value, str) else 0 <= value < 1


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _is_color(text: str) -> bool:
    from PIL import ImageColor  # which the help of commands does not need

    try:
        ImageColor.getrgb(text)
    except ValueError:
        return False
    return True


def _is_stack(text: str) -> bool:
    from hybrid_jax.models.registry import LETTERS, parse_stack

    return not text or (all(parse_stack(text)) and {*text} <= {*LETTERS, "-"})


def _stack_words() -> str:
    letters = ", ".join(_table("hybrid_jax.models.registry:LETTERS"))
    return f"empty, or stages such as C-C-C-T or C-C-CT-T, of {letters}"


def _model_words() -> str:
    from hybrid_jax.models.registry import family_patterns

    return f"one of {family_patterns()}"


# Comparisons with NaN are false, so every rule on numbers refuses it.
PATH = Rule(LOCAL_ONLY, is_local)
NAME = Rule(
    "a name such as digits, or a TFDS name such as imagenette/160px-v2",
    lambda v: bool(re.fullmatch(r"\w+(/[\w.-]+)?(:[\d.]+)?", v)),
)
LABEL = Rule(
    "the name of a label, such as label or coarse_label",
    lambda v: bool(re.fullmatch(r"\w+", v)),
)
SWITCH = Rule("true or false", lambda v: True)
SEED = whole_number(0)
RATE = Rule("a number from 0 to below 1", lambda v: 0 <= v < 1)
SHARE = Rule("a number from 0 to 1", lambda v: 0 <= v <= 1)
FACTOR = Rule("a number above 0 up to 1", lambda v: 0 < v <= 1)
HALF = Rule("a number from 0 to 0.5", lambda v: 0 <= v <= 0.5)
# Runs compute in 32 bits, which know no smaller or larger numbers.
LEAST, MOST = 1e-30, 1e30
POSITIVE = Rule(f"a number from {LEAST:g} to {MOST:g}", lambda v: LEAST <= v <= MOST)
NOT_NEGATIVE = Rule(
    f"0, or a number from {LEAST:g} to {MOST:g}", lambda v: v == 0 or POSITIVE.holds(v)
)
JITTER = Rule("a number from 0 to 10", lambda v: 0 <= v <= 10)
ALPHA = Rule(
    f"0, or a number from {LEAST:g} to 1000", lambda v: v == 0 or LEAST <= v <= 1000
)
MAGNITUDE = Rule("a whole number from 0 to 30", lambda v: 0 <= v <= 30)
COLOR = Rule("a color such as white, gray or #ff8800", _is_color)
VALIDATION = Rule(
    "a number from 0 to below 1, or a fold such as 2/5: the second of five",
    _is_validation,
)
PATTERN = Rule(
    r"empty, or a regular expression such as (patient\d+)",
    lambda v: not v or _is_pattern(v),
)
PATTERNS = Rule(
    "a tuple of regular expressions, such as ('stem/', 'stage[12]_')",
    lambda v: all(isinstance(p, str) and p and _is_pattern(p) for p in v),
)
MODEL = Rule(_model_words, lambda v: v in _table("hybrid_jax.models.registry:MODELS"))
STACK = Rule(_stack_words, _is_stack)
STRIDES = tuple_of_whole_numbers(
    "empty, or the strides of the stem and of each stage, each 1 or 2",
    lambda v: set(v) <= {1, 2},
)
IMAGE_SIZE = tuple_of_whole_numbers(
    "empty, or (height, width) in pixels such as 64,64, each from 16 to below 2**15",
    lambda v: len(v) == 2 and all(16 <= side < 2**SIDE_BITS for side in v),
)
EPOCHS = Rule(
    "empty, or increasing numbers above 0, such as 60,120,160",
    lambda v: all(
        type(e) in (int, float) and before < e < math.inf
        for before, e in zip((0, *v), v, strict=False)
    ),
)
_ONE = r"(best|last|[1-9]\d*)"
CHECKPOINT = Rule(
    "empty, best, last, a step, several of these with commas, or all",
    lambda v: bool(re.fullmatch(rf"|all|{_ONE}(,{_ONE})*", v)),
)
FAULT = Rule(
    "empty, or nan@STEP or term@STEP; steps count from 1",
    lambda v: bool(re.fullmatch(r"((nan|term)@[1-9]\d*)?", v)),
)
