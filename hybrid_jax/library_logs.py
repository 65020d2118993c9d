"""Print warnings of libraries: each once, in a line that names the library.

No library is silenced as a whole. Messages that concern nobody are left out by their
words, each for a reason.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator

from hybrid_jax.errors import shown
from hybrid_jax.paths import in_own_words

NOISE = (
    # TFDS looks for a data set that is about to be prepared, as another line says.
    r"Variant folder .* has no dataset_info\.json",
    # orbax looks for a file of whole checkpoints in the folder of their arrays too.
    r"Metadata file does not exist: .*_CHECKPOINT_METADATA",
    # Errors that are also raised, and printed in a line of our own.
    r"_SignalingThread\.run\(\) raised an exception",
    r"Save Finalize thread .* failed",
    r"Failed to run \d+ Handler Commit operations",
)


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """Print the warnings of libraries inside the block to the standard error."""
    root = logging.getLogger()
    before = list(root.handlers)
    # Python adds a StreamHandler if a library logged something when imported.
    others = [
        handler for handler in before if type(handler) is not logging.StreamHandler
    ]
    root.handlers[:] = [*others, _Printer()]
    try:
        yield
    finally:
        root.handlers[:] = before


class Unraisable:
    """Drop errors of pending writes after another write has failed.

    The error of that write is raised. The others come later, from threads of
    tensorstore that nobody can wait for, and say that asyncio's loop is closed. The
    object replaces `sys.unraisablehook` until `undo`.
    """

    def __init__(self) -> None:
        self._before = sys.unraisablehook
        sys.unraisablehook = self

    def __call__(self, error: "sys.UnraisableHookArgs") -> None:
        if str(error.exc_value) != "Event loop is closed":
            self._before(error)

    def undo(self) -> None:
        """Restore the hook of before, once everything is written."""
        if sys.unraisablehook is self:
            sys.unraisablehook = self._before


class _Printer(logging.Handler):
    """Print the first line of each warning, once for each library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, unless it was printed before or is noise."""
        text = re.sub(r"^(\[[^]]*\] ?)+", "", in_own_words(record.getMessage()))
        line = (
            f"{_library(record)}: {text.strip().splitlines()[0][:300]}" if text else ""
        )
        if not line or line in self._printed or _is_noise(record, text):
            return
        self._printed.add(line)
        print(shown(f"hybrid-jax: {line}"), file=sys.stderr, flush=True)


def _is_noise(record: logging.LogRecord, text: str) -> bool:
    # asyncio reports pending tasks after orbax has raised an error.
    return any(re.search(known, text, re.DOTALL) for known in NOISE) or (
        record.name == "asyncio" and ("orbax" in text or "tensorstore" in text)
    )


def _library(record: logging.LogRecord) -> str:
    """Return the package of the file that logs, since several share absl's logger."""
    package = re.search(r".*(?:site|dist)-packages/([^/.]+)", record.pathname)
    return package[1] if package else record.name
