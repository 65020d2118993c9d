"""Define the flags of a command. This module imports nothing that takes time."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """The values that a flag accepts.

    Attributes:
      allowed: the accepted values, in words.
      read: turns a text into a value; raises ValueError if the text is not allowed.
    """

    allowed: str
    read: Callable[[str], Any]


class Option(NamedTuple):
    """A flag.

    Attributes:
      name: without `--`.
      kind: the values that it accepts.
      default: value if the user does not give the flag.
    """

    name: str
    kind: Kind
    default: Any = None


def integer(least: int, bits: int = 31) -> Kind:
    """Accept whole numbers from `least` that are below `2**bits`."""
    return Kind(
        f"a whole number from {least} to below 2**{bits}",
        lambda text: _check_range(int(text), least, 2**bits - 1),
    )


def number(least: float, most: float) -> Kind:
    """Accept numbers from `least` to `most`."""
    return Kind(
        f"a number from {least:g} to {most:g}",
        lambda text: _check_range(float(text), least, most),
    )


def one_of(*choices: str) -> Kind:
    """Accept the given words."""
    # `index` raises ValueError for other words.
    return Kind(
        f"one of {', '.join(choices)}", lambda text: choices[choices.index(text)]
    )


def _check_range(value: float, least: float, most: float) -> float:
    if not least <= value <= most:  # NaN fails too
        raise ValueError
    return value


def _image_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)
    if not match:
        raise ValueError
    height, width = match.groups()
    return int(height), int(width or height)


TEXT = Kind("a text", str)
# `--name` means `--name=true`, and `--noname` means `--name=false`.
SWITCH = Kind("true or false", lambda text: bool(("false", "true").index(text.lower())))
IMAGE_SIZE = Kind("pixels such as 224, or 192x256 (height x width)", _image_size)
