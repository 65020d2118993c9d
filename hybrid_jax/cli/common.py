"""What all commands share: how they start, show help, and tell mistakes."""

import contextlib
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hybrid_jax import library_logs
from hybrid_jax.errors import UserError, shown
from hybrid_jax.paths import remove_links

HELP = {"--help", "-h", "-?", "--helpfull", "--helpshort", "-help"}

# Of glibc: what is large comes in pages of 2 MB, where the kernel has them.
MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
RESUME = "run the same command to resume"


class Call(NamedTuple):
    """One call of a command.

    Attributes:
      program: the words that start the program, as the user types them.
      name: the subcommand; empty if the user named none.
      arguments: what follows.
    """

    program: tuple[str, ...]
    name: str
    arguments: list[str]

    def line(self, name: str, *arguments: str) -> str:
        """Writes a command line of this program that can be pasted into a shell."""
        words = [*self.program, *([name] if name else []), *arguments]
        return " ".join(map(quoted, words))


def is_config(word: str) -> bool:
    """Whether a word is what belongs behind `--config=`."""
    return word.partition(":")[0].endswith(".py")


class Command(NamedTuple):
    """A subcommand.

    Attributes:
      text: its help, which fits a screen.
      run: does what a call asks for; returns the exit code, None for 0.
      after_interruption: what to say after Ctrl-C.
      huge_pages: whether it starts anew, see `restart_with_huge_pages`.
    """

    text: str
    run: Callable[[Call], int | None]
    after_interruption: str = RESUME
    huge_pages: bool = False


def read_call(argv: list[str] | None) -> Call:
    """Splits a command line into program and arguments.

    Args:
      argv: program and arguments; None takes those of this process.
    """
    program, *arguments = sys.argv if argv is None else argv
    return Call(_program(program, own=argv is None), "", arguments)


def start(command: Command, argv: list[str] | None = None) -> int:
    """Runs a command that has a module of its own, such as `hybrid_jax.profiling`.

    Args:
      command: what to run.
      argv: program and arguments; None takes those of this process.

    Returns:
      The exit code.
    """
    return execute(command, read_call(argv), alone=argv is None)


def execute(command: Command, call: Call, alone: bool) -> int:
    """Runs a command, or shows its help; returns the exit code.

    Args:
      command: what to run.
      call: what the user typed.
      alone: whether this process does nothing else.
    """
    if HELP & {*call.arguments}:
        return guarded(lambda: print(command.text, flush=True))
    if alone and command.huge_pages:
        restart_with_huge_pages()
    code = guarded(lambda: command.run(call), command.after_interruption)
    if alone and code:
        _end(code)
    return code


def _program(program: str, own: bool) -> tuple[str, ...]:
    """Returns the words that start the program, as short as a user types them."""
    module = getattr(sys.modules["__main__"], "__spec__", None) if own else None
    if module is not None:
        name = module.name.removesuffix(".__main__")
        return (_short(sys.executable), "-m", name)
    if program.endswith(".py"):
        return (_short(sys.executable), program)
    return (_short(program),)


def _short(program: str) -> str:
    """Returns the name of a program if the shell finds it by that, else its path."""
    name = Path(program).name
    return name if shutil.which(name) == program else program


def quoted(word: str) -> str:
    """Quotes a word for a shell; bytes that cannot be printed are escaped."""
    if word.isprintable():
        readable = "'" in word and not {*word} & {*'"$`\\!'}
        return f'"{word}"' if readable else shlex.quote(word)
    plain = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\x{byte:02x}"
        for byte in os.fsencode(word)
    ]
    return f"$'{''.join(plain)}'"


def _end(code: int) -> None:
    """Ends the process here if its end would wait for what does not end.

    Threads that compile cannot be stopped, and other hosts may be gone.
    """
    names = [thread.name for thread in threading.enumerate()]
    hosts = sys.modules.get("hybrid_jax.parallel.distributed")
    many = hosts and hosts.wait_for_exits()
    if many or (code > 128 and any(name.startswith("compiler") for name in names)):
        sys.stdout.flush()
        remove_links()
        os._exit(code)


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


def guarded(run: Callable[[], int | None], again: str = RESUME) -> int:
    """Runs a command; returns its exit code, 2 for what the user can mend.

    Args:
      run: the command; what it returns is the code, and None is 0.
      again: what is said after an interruption.
    """
    with library_logs.print_library_warnings(), _printable():
        return _guarded(run, again)


def _guarded(run: Callable[[], int | None], again: str) -> int:
    try:
        return run() or 0
    except UserError as error:
        # Spaces within a line stay: it may hold a command with somebody's paths.
        lines = map(str.strip, str(error).splitlines())
        return _tell(" ".join(lines), error.code)
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
