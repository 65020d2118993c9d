"""What libraries have to say: each warning once, in a line that names who says it.

A library is never silenced as a whole. What is known to concern nobody is left out by
its words, each for a reason.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator

from hybrid_jax.errors import shown
from hybrid_jax.paths import in_own_words

NOISE = (
    # TFDS looks for a data set that is about to be prepared, which we say ourselves.
    r"Variant folder .* has no dataset_info\.json",
    # orbax looks for a file of whole steps in the folder of their arrays too.
    r"Metadata file does not exist: .*_CHECKPOINT_METADATA",
    # Errors that are raised as well, and told in a line of ours.
    r"_SignalingThread\.run\(\) raised an exception",
    r"Save Finalize thread .* failed",
    r"Failed to run \d+ Handler Commit operations",
)


@contextlib.contextmanager
def printed() -> Iterator[None]:
    """Print the warnings of libraries inside the block to the standard error."""
    root = logging.getLogger()
    before = list(root.handlers)
    # What Python adds for itself, where a library logged something when imported.
    others = [
        handler for handler in before if type(handler) is not logging.StreamHandler
    ]
    root.handlers[:] = [*others, _Teller()]
    try:
        yield
    finally:
        root.handlers[:] = before


class Unraisable:
    """Says nothing of writes that are under way in asyncio when another one fails.

    The error of that other one is raised. Theirs come later, from threads of
    tensorstore that nobody can wait for, and say that asyncio's loop is closed.
    """

    def __init__(self):
        self._before = sys.unraisablehook
        sys.unraisablehook = self

    def __call__(self, error) -> None:
        if str(error.exc_value) != "Event loop is closed":
            self._before(error)

    def undo(self) -> None:
        """Gives Python its hook back, once everything is written."""
        if sys.unraisablehook is self:
            sys.unraisablehook = self._before


class _Teller(logging.Handler):
    """Writes the first line of what is logged, once for each library."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line, unless it was written before or is noise."""
        text = re.sub(r"^(\[[^]]*\] ?)+", "", in_own_words(record.getMessage()))
        line = (
            f"{_library(record)}: {text.strip().splitlines()[0][:300]}" if text else ""
        )
        if not line or line in self._told or _is_noise(record, text):
            return
        self._told.add(line)
        print(shown(f"hybrid-jax: {line}"), file=sys.stderr, flush=True)


def _is_noise(record: logging.LogRecord, text: str) -> bool:
    # asyncio tells of what nobody waits for any more, once orbax has raised an error.
    return any(re.search(known, text, re.DOTALL) for known in NOISE) or (
        record.name == "asyncio" and ("orbax" in text or "tensorstore" in text)
    )


def _library(record: logging.LogRecord) -> str:
    """Who logs: the package of the file, since several share absl's logger."""
    package = re.search(r".*(?:site|dist)-packages/([^/.]+)", record.pathname)
    return package[1] if package else record.name
