"""Print each warning of a library once, in one line that names the library.

No library is silenced as a whole. Harmless messages are listed in `IGNORED_MESSAGES`,
each with the reason.
"""

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator

from hybrid_jax.errors import escape
from hybrid_jax.paths import with_user_paths
from hybrid_jax.unraisable import Layer, layers

IGNORED_MESSAGES = (
    # TFDS looks for a data set that is about to be prepared, which we log ourselves.
    r"Variant folder .* has no dataset_info\.json",
    # orbax looks for a file of whole checkpoints in the folder of their arrays too.
    r"Metadata file does not exist: .*_CHECKPOINT_METADATA",
    # These errors are raised as well, and end in an error line of ours.
    r"_SignalingThread\.run\(\) raised an exception",
    r"Save Finalize thread .* failed",
    r"Failed to run \d+ Handler Commit operations",
)


@contextlib.contextmanager
def print_library_warnings() -> Iterator[None]:
    """Print the warnings of libraries to standard error inside this context."""
    root, handler = logging.getLogger(), _OneLineHandler()
    before, show = list(root.handlers), warnings.showwarning
    # Python adds a plain StreamHandler if a library logs while it is imported.
    others = [
        handler for handler in before if type(handler) is not logging.StreamHandler
    ]
    root.handlers[:] = [*others, handler]
    warnings.showwarning = handler.show
    # It warns when the tasks are collected, perhaps at the very end of the process.
    logging.getLogger("asyncio").addFilter(_is_of_no_checkpoint)
    try:
        yield
    finally:
        root.handlers[:] = before
        warnings.showwarning = show


def ignore_closed_event_loop() -> Layer:
    """Print no exception that says that asyncio's event loop is closed.

    When a write of a checkpoint fails, its error is raised. Other writes that were
    pending in asyncio then fail in threads of tensorstore that nobody can wait for,
    and say that the event loop is closed.

    Returns:
      The layer that ignores them, to remove once everything is written. If one is there
      already, such as after a write that failed, it is that one.
    """
    there = (layer for layer in layers() if layer.handles is _is_of_closed_loop)
    return next(there, None) or Layer(_is_of_closed_loop)


def _is_of_closed_loop(unraisable: "sys.UnraisableHookArgs") -> bool:
    return str(unraisable.exc_value) == "Event loop is closed"


class _OneLineHandler(logging.Handler):
    """A handler that prints the first line of each warning once for each library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record's first line, unless it is ignored or was printed before."""
        try:
            text = record.getMessage()
        except Exception:  # the library's arguments do not fit its message
            text = str(record.msg)
        # Several packages share a logger.
        self._print(_package(record.pathname) or record.name, text)

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        *_: object,
        **__: object,
    ) -> None:
        """Print a warning of Python's `warnings` in the same way."""
        self._print(_package(filename), str(message))

    def _print(self, library: str, text: str) -> None:
        text = re.sub(r"^(\[[^]]*\] ?)+", "", with_user_paths(text)).strip()
        if not text or _is_ignored(text):
            return
        first = text.splitlines()[0]
        line = f"{library}: {first[:300]}" if library else first
        if line not in self._printed:
            self._printed.add(line)
            print(escape(f"hybrid-jax: {line}"), file=sys.stderr, flush=True)


def _is_ignored(text: str) -> bool:
    return any(re.search(known, text, re.DOTALL) for known in IGNORED_MESSAGES)


def _is_of_no_checkpoint(record: logging.LogRecord) -> bool:
    """Filter warnings of asyncio: after an error of orbax, nobody waits for tasks."""
    text = record.getMessage()
    return "orbax" not in text and "tensorstore" not in text


def _package(path: str) -> str:
    """Return the installed package of a file; empty for other files."""
    package = re.search(r".*(?:site|dist)-packages/([^/.]+)", path)
    return package[1] if package else ""
