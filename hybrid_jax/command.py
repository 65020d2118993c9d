"""What all commands share: how mistakes are told, and how sizes are written."""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator

from hybrid_jax import library_logs
from hybrid_jax.errors import UserError, shown

# Of glibc: what is large comes in pages of 2 MB, where the kernel has them.
MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def restart_with_huge_pages() -> None:
    """Starts this command anew in an environment with `MALLOC`, if it has none.

    On a CPU a call of several training steps takes hundreds of megabytes from the
    kernel and gives them back, and in pages of 4 kB that is a fifth of a step. The C
    library reads its settings before Python starts; a user's own ones stay.
    """
    if sys.platform != "linux" or MALLOC.keys() & os.environ.keys():
        return
    with contextlib.suppress(OSError):  # it runs as well, only slower
        again = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, again, os.environ | MALLOC)  # noqa: S606


def guarded(
    run: Callable[[], int | None], again: str = "the same command goes on"
) -> int:
    """Runs a command; returns its exit code, 2 for what the user can mend.

    Args:
      run: the command; what it returns is the code, and None is 0.
      again: what is said after an interruption.
    """
    with library_logs.told(), _printable():
        return _guarded(run, again)


def _guarded(run: Callable[[], int | None], again: str) -> int:
    try:
        return run() or 0
    except UserError as error:
        return _tell(" ".join(str(error).split()), error.code)
    except BrokenPipeError:  # who read our output, such as head, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        named = error.filename and error.strerror
        return _tell(f"{error.strerror}: {error.filename}" if named else error, 2)
    except KeyboardInterrupt as error:
        code = getattr(error, "code", 130)  # a run that was told to end has its own
        return _tell(f"{str(error) or 'interrupted'}; {again}", code)


@contextlib.contextmanager
def _printable() -> Iterator[None]:
    """Has letters that the terminal does not know escaped, such as names of files."""
    streams = [s for s in (sys.stdout, sys.stderr) if hasattr(s, "reconfigure")]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            stream.reconfigure(errors=errors)


@contextlib.contextmanager
def memory_told() -> Iterator[None]:
    """Has a device's lack of memory told as a user's mistake.

    Raises:
      UserError: names what to lower.
    """
    from jax.errors import JaxRuntimeError

    try:
        yield
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "the device is out of memory: lower config.train.batch_size or "
            "config.train.eval_batch_size, raise config.optim.accumulate (which "
            "config.train.micro_batch=auto does as far as need be), take "
            "config.train.remat=full, config.dtype=bfloat16 or a smaller model"
        ) from None


def _tell(what: object, code: int) -> int:
    print(shown(f"hybrid-jax: {what}"), file=sys.stderr)
    return code


class Parser(argparse.ArgumentParser):
    """Shows a module's docstring for help, and has mistakes told as all others are."""

    def __init__(self, prog: str, text: str):
        super().__init__(
            prog=prog,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str):
        raise UserError(f"{message} (see --help)")


def image_size(text: str) -> tuple[int, int]:
    """`224` or `192x256` as `(height, width)`, for a parser."""
    match = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 224 nor 192x256 or such")
    height, width = match.groups()
    return int(height), int(width or height)
