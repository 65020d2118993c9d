"""What every command does with what goes wrong: one line, and an exit code."""

import os
import sys
from collections.abc import Callable

from hybrid_jax.errors import UserError


def guarded(run: Callable[[], None], again: str = "the same command goes on") -> int:
    """Runs a command; returns its exit code, 2 for what the user can mend.

    Args:
      run: the command.
      again: what is said after an interruption.
    """
    try:
        run()
    except UserError as error:
        return _tell(" ".join(str(error).split()), 2)
    except BrokenPipeError:  # who read our output, such as head, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        named = error.filename and error.strerror
        return _tell(f"{error.strerror}: {error.filename}" if named else error, 2)
    except KeyboardInterrupt:
        return _tell(f"interrupted; {again}", 130)
    return 0


def _tell(what: object, code: int) -> int:
    print(f"hybrid-jax: {what}", file=sys.stderr)
    return code
