"""A command's own flags, a row each; costs no import of a library."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What the value of a flag may be.

    Attributes:
      allowed: in words.
      read: makes a value of a text; raises ValueError if it cannot.
    """

    allowed: str
    read: Callable[[str], Any]


class Option(NamedTuple):
    """A flag: its name without `--`, what it may be, and its default."""

    name: str
    kind: Kind
    default: Any = None


def whole(least: int) -> Kind:
    """Whole numbers from `least`."""
    return Kind(
        f"a whole number from {least}",
        lambda text: _between(int(text), least, math.inf),
    )


def number(least: float, most: float) -> Kind:
    """Numbers from `least` to `most`."""
    return Kind(
        f"a number from {least:g} to {most:g}",
        lambda text: _between(float(text), least, most),
    )


def one_of(*choices: str) -> Kind:
    """One of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return Kind(f"one of {', '.join(choices)}", read)


def _between(value: float, least: float, most: float) -> float:
    if not least <= value <= most:  # NaN is not
        raise ValueError
    return value


def _image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)
    if not match:
        raise ValueError
    height, width = match.groups()
    return int(height), int(width or height)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


TEXT = Kind("a text", str)
SWITCH = Kind("true or false", _switch)  # `--name` alone is true
IMAGE_SIZE = Kind("pixels such as 224, or 192x256 (height x width)", _image_size)
