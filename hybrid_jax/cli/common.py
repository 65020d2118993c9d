"""Start commands, show their help, and report errors in one line."""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hybrid_jax import library_logs
from hybrid_jax.cli import system_errors
from hybrid_jax.errors import UserError, escape, first_line, report_out_of_memory
from hybrid_jax.interrupts import (
    Process,
    end_at_once_while_importing,
    repeat_dropped,
)
from hybrid_jax.paths import remove_links

HELP = {"--help", "-h", "-?", "--helpfull", "--helpshort", "-help"}

# glibc allocates large arrays in pages of 2 MB, if the kernel has them.
MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
# Unrolled loops take LLVM a sixth longer to compile, and run no faster.
XLA_FLAGS = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling=true"
RESUME = "run the same command to resume"


class Call(NamedTuple):
    """One call of a command.

    Attributes:
      program: the words that start the program, as the user types them.
      name: the subcommand; empty if the user named none.
      arguments: the words after the program and the subcommand.
    """

    program: tuple[str, ...]
    name: str
    arguments: list[str]

    def line(self, name: str, *arguments: str) -> str:
        """Return a command line of this program that can be pasted into a shell."""
        words = [*self.program, *([name] if name else []), *arguments]
        return " ".join(map(quoted, words))


class Command(NamedTuple):
    """A subcommand.

    Attributes:
      text: the help, at most 24 lines of 80 columns.
      run: executes a call; returns the exit code, None for 0.
      after_interruption: end of the message after Ctrl-C.
      computes: whether to restart the process with `restart_with_settings`.
    """

    text: str
    run: Callable[[Call], int | None]
    after_interruption: str = RESUME
    computes: bool = False


def print_line(text: str) -> None:
    """Print what the program says of a call, on standard error."""
    print(escape(f"hybrid-jax: {text}"), file=sys.stderr)


def is_config(word: str) -> bool:
    """Return whether a word looks like a config file, with or without a model."""
    return word.partition(":")[0].endswith(".py")


def read_call(argv: list[str] | None) -> Call:
    """Split a command line into program and arguments.

    Args:
      argv: program and arguments; None uses those of this process.
    """
    program, *arguments = sys.argv if argv is None else argv
    module = sys.modules["__main__"].__spec__ if argv is None else None
    if module is not None:
        words = [_short(sys.executable), "-m", module.name.removesuffix(".__main__")]
    elif program.endswith(".py"):
        words = [_short(sys.executable), program]
    else:
        words = [_short(program)]
    return Call(tuple(words), "", arguments)


def _short(program: str) -> str:
    """Return the name of a program if the shell finds it by name, else its path."""
    name = Path(program).name
    return name if shutil.which(name) == program else program


def quoted(word: str) -> str:
    """Quote a word for a shell; escape bytes that cannot be printed."""
    if word.isprintable():
        readable = "'" in word and not {*word} & {*'"$`\\!'}
        return f'"{word}"' if readable else shlex.quote(word)
    plain = [
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\x{byte:02x}"
        for byte in os.fsencode(word)
    ]
    return f"$'{''.join(plain)}'"


def execute(command: Command, call: Call, owns_process: bool) -> int:
    """Run a command, or show its help.

    Args:
      command: what to run.
      call: what the user typed.
      owns_process: whether this process runs only this command, so that it may be
        restarted and ended.

    Returns:
      The exit code.
    """
    if HELP & {*call.arguments}:
        return guarded(lambda: print(command.text, flush=True))
    if owns_process and command.computes:
        restart_with_settings()
    if owns_process:
        Process.runs_one_command = True
        end_at_once_while_importing(lambda: _end_interrupted(command))
    code = guarded(lambda: command.run(call), command.after_interruption)
    if owns_process and code:
        _exit_if_blocked(code)
    return code


def _end_interrupted(command: Command) -> None:
    """Say that the command was interrupted, and end the process at once."""
    _print_error(f"interrupted; {command.after_interruption}", 130)
    _end_process(130)


def _exit_if_blocked(code: int) -> None:
    """End the process at once if a normal exit would wait forever.

    Threads that compile cannot be stopped, and other hosts may be gone.
    """
    distributed = sys.modules.get("hybrid_jax.parallel.distributed")
    has_left_hosts = distributed and distributed.wait_for_exits()
    threads = [thread.name for thread in threading.enumerate()]
    compiling = any(name.startswith("compiler") for name in threads)
    if has_left_hosts or (code > 128 and compiling):
        _end_process(code)


def _end_process(code: int) -> None:
    sys.stdout.flush()
    remove_links()
    os._exit(code)


def add_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with `MALLOC` and `XLA_FLAGS`; the user's settings win."""
    flags = environment.get("XLA_FLAGS", "")
    if XLA_FLAGS not in flags:
        flags = f"{XLA_FLAGS} {flags}".strip()
    return {**MALLOC, **environment, "XLA_FLAGS": flags}


def restart_with_settings() -> None:
    """Restart this command with settings for CPUs, unless it has a value for `MALLOC`.

    On a CPU, each dispatch of training steps allocates hundreds of megabytes and frees
    them. With pages of 4 kB, this takes a fifth of the time of a step. The C library
    reads its settings before Python starts, so the process must restart.
    """
    if sys.platform != "linux" or MALLOC.keys() & os.environ.keys():
        return
    with contextlib.suppress(OSError):  # without a restart, it only runs slower
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, add_settings(os.environ))  # noqa: S606


def guarded(run: Callable[[], int | None], after_interruption: str = RESUME) -> int:
    """Run a command, and print an error that the user can fix as one line.

    Args:
      run: the command; returns the exit code, None for 0.
      after_interruption: end of the message after Ctrl-C.

    Returns:
      The exit code; 2 for most errors that a user can fix.
    """
    with (
        library_logs.print_library_warnings(),
        _escaped_output(),
        repeat_dropped(KeyboardInterrupt, lambda: signal.SIGINT),
    ):
        try:
            return run() or 0
        except UserError as error:
            # Spaces within a line stay, since it may contain a command with paths.
            lines = map(str.strip, str(error).splitlines())
            return _print_error(" ".join(lines), error.code)
        except BrokenPipeError:  # the reader of the output, such as head, has ended
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except OSError as error:
            return _print_error(system_errors.in_words(error), 2)
        except MemoryError as error:
            return _print_error(
                f"this computer has too little memory ({first_line(error)}): lower "
                "config.data.image_size or config.train.batch_size, or use a smaller "
                "model or fewer images",
                2,
            )
        except KeyboardInterrupt as error:
            code = getattr(error, "code", 130)  # `Interrupted` has its own code
            text = f"{str(error) or 'interrupted'}; {after_interruption}"
            return _print_error(text, code)


@contextlib.contextmanager
def on_device() -> Iterator[None]:
    """Run the work of a command that computes with a run; it loads jax.

    Training checks the device itself, once the hosts of the run have found each other.

    Raises:
      UserError: there is no device of the platform that `JAX_PLATFORMS` names.
      OutOfMemory: see `report_out_of_memory`.
    """
    from hybrid_jax import runtime

    runtime.check_device()
    with report_out_of_memory():
        yield


@contextlib.contextmanager
def _escaped_output() -> Iterator[None]:
    """Escape characters that the terminal cannot print, such as in file names."""
    streams = [s for s in (sys.stdout, sys.stderr) if hasattr(s, "reconfigure")]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            stream.reconfigure(errors=errors)


def _print_error(text: str, code: int) -> int:
    print_line(text)
    return code
