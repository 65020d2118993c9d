"""The one exception that a user is meant to read, and what helps to word it."""

import difflib
import math
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. The message is one line: the thing and the way out.

    The command prints it without a traceback and ends with its exit code.
    """

    code = 2


class Gone(UserError):
    """Another process of the run has died; the same command may go on."""

    code = 4


def first_line(error: Exception) -> str:
    """What an exception of somebody else's says, short enough for one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def short(value: object) -> str:
    """A value, cut where it would fill the line."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:50]}…"


def megabytes(count: int) -> str:
    """A number of bytes, rounded up."""
    return f"{math.ceil(count / 1e6):,} MB"


def closest(name: str, valid: Iterable[str]) -> str:
    """`", did you mean 'digits'?"`, or nothing."""
    match = difflib.get_close_matches(str(name), list(valid), n=1)
    return f", did you mean {match[0]!r}?" if match else ""
