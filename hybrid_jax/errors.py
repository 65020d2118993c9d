"""The one exception that a user is meant to read, and what helps to word it."""

import difflib
import math
import os
import re
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something the user can mend. The message is one line: the thing and the way out.

    The command prints it without a traceback and ends with its exit code.
    """

    code = 2


class Gone(UserError):
    """Another process of the run has died; the same command may go on."""

    code = 4


class OtherRun(UserError):
    """A folder holds a run of another config.

    Attributes:
      what: the folder, and how the configs differ.
      epochs_differ: whether they do in the number of epochs.
    """

    def __init__(self, what: str, way_out: str, epochs_differ: bool):
        super().__init__(f"{what}. {way_out}")
        self.what, self.epochs_differ = what, epochs_differ


def first_line(error: Exception) -> str:
    """What an exception of somebody else's says, short enough for one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def short(value: object) -> str:
    """A value, cut where it would fill the line."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:50]}…"


def shown(path: str | os.PathLike) -> str:
    r"""A path or a name as text fit to print: a byte that is not UTF-8 is `\xe9`."""
    return re.sub("[\ud800-\udfff]", _escaped, os.fspath(path))


def _escaped(surrogate: re.Match) -> str:
    code = ord(surrogate[0])  # Python reads such a byte as U+DC00 and its value
    byte = code - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte < 0x100 else f"\\u{code:x}"


def counted(count: int, noun: str) -> str:
    """`1 image`, `2,000 images`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(items: Sequence[str], limit: int = 5, separator: str = ", ") -> str:
    """Join items, and count those beyond a limit: `a, b, and 3 more`."""
    more = len(items) - limit
    rest = f"{separator}and {more:,} more" if more > 0 else ""
    return separator.join(items[:limit]) + rest


def megabytes(count: int) -> str:
    """A number of bytes, rounded up."""
    return f"{math.ceil(count / 1e6):,} MB"


def closest(name: str, valid: Iterable[str]) -> str:
    """`", did you mean 'digits'?"`, or nothing."""
    match = difflib.get_close_matches(str(name), list(valid), n=1)
    return f", did you mean {match[0]!r}?" if match else ""
