"""Exceptions that a user is meant to read, and helpers that word their messages."""

import contextlib
import difflib
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence

PACKAGE = f"{__name__.partition('.')[0]}."


class UserError(Exception):
    """An error that the user can fix. One line says what is wrong and what to do.

    The command prints that line without a traceback, and exits with `code`.
    """

    code = 2


class InvalidInput(UserError, ValueError):
    """A wrong argument of a scikit-learn estimator, which is also a `ValueError`."""


class ProcessDied(UserError):
    """Another process of the run has died; run the same command to resume."""

    code = 4


class ConfigMismatch(UserError):
    """A workdir holds a run of another config.

    Attributes:
      what: text that names the folder, and how the configs differ.
      epochs_differ: whether the number of epochs differs.
    """

    def __init__(
        self,
        workdir: os.PathLike,
        differing: Sequence[str],
        more: str = "",
        epochs_differ: bool = False,
    ) -> None:
        """Compose the error message.

        Args:
          workdir: the folder of the run.
          differing: the fields that differ, in words.
          more: a further way out than another workdir, or the same config.
          epochs_differ: see the attribute.
        """
        self.what = (
            f"--workdir={workdir} holds a run of another config: {'; '.join(differing)}"
        )
        self.epochs_differ = epochs_differ
        super().__init__(f"{self.what}. Give another workdir, or that config{more}")


class OutOfMemory(UserError):
    """A config that needs more memory than the device has."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a runtime error of JAX says that a device is out of memory."""
    return "RESOURCE_EXHAUSTED" in str(error)


@contextlib.contextmanager
def report_out_of_memory() -> Iterator[None]:
    """Turn JAX's out-of-memory error into one that a user can fix.

    Raises:
      OutOfMemory: the device is out of memory; the message names the fields to change.
    """
    from jax.errors import JaxRuntimeError

    try:
        yield
    except JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "the device is out of memory: lower config.train.batch_size or "
            "config.train.eval_batch_size, raise config.optim.accumulate (or set "
            "config.train.micro_batch=auto, which does so as needed), set "
            "config.train.remat=full or config.dtype=bfloat16, or use a smaller model"
        ) from None


def warn(notes: Iterable[str]) -> None:
    """Warn of each note, at the line that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and f"{frame.f_globals.get('__name__')}.".startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    for note in notes:
        warnings.warn(escape(note), stacklevel=level)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, cut to 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def elide(value: object) -> str:
    """Return a value as text, cut to 50 characters if it has more than 60."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:50]}…"


def escape(path: str | os.PathLike) -> str:
    r"""Return a path or name in printable form; a byte that is not UTF-8 is `\xe9`."""
    return re.sub("[\ud800-\udfff]", _escaped, os.fspath(path))


def _escaped(surrogate: re.Match) -> str:
    code = ord(surrogate[0])  # Python reads such a byte as U+DC00 plus its value
    byte = code - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte < 0x100 else f"\\u{code:x}"


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as text, such as `[28, 28, 1]`."""
    return f"[{', '.join(map(str, shape))}]"


def at(name: str) -> str:
    """Return what a message about something begins with: its name, if it has one."""
    return f"{name}: " if name else ""


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 image`, `2,000 images`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(items: Sequence[str], limit: int = 5, separator: str = ", ") -> str:
    """Join items, and count those beyond a limit: `a, b, and 3 more`."""
    more = len(items) - limit
    rest = f"{separator}and {more:,} more" if more > 0 else ""
    return separator.join(items[:limit]) + rest


def megabytes(count: int) -> str:
    """Return a number of bytes in megabytes, rounded up."""
    return f"{math.ceil(count / 1e6):,} MB"


def closest(name: str, valid: Iterable[str]) -> str:
    """Return `", did you mean 'digits'?"` for a similar name, or an empty string."""
    match = difflib.get_close_matches(str(name), list(valid), n=1)
    return f", did you mean {match[0]!r}?" if match else ""
