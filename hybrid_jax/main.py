"""Train image classifiers that combine convolutions and attention.

  hybrid-jax --config=digits
  hybrid-jax --config=digits --config.train.epochs=20

The first command trains or resumes in runs/digits; the second changes a field.
"""

import importlib
import os
import sys

import hybrid_jax
from hybrid_jax.cli.common import (
    Call,
    Command,
    execute,
    guarded,
    is_config,
    read_call,
)
from hybrid_jax.errors import UserError, closest

# One row per command: its module in hybrid_jax.cli, and its line of help.
COMMANDS = {
    "train": "train or resume a run; the default if --config is given",
    "evaluate": "measure the accuracy of a trained run",
    "predict": "predict the classes of images with a trained run",
    "report": "write a page about runs: curves, mistakes, comparisons",
    "equivariance": "measure what a shift of the image changes",
    "inspect": "look for problems in a data set before you train on it",
    "baselines": "test ordinary classifiers on an experiment's data",
    "sweep": "search for the best values of fields, or cross-validate",
    "study": "answer a question about models with many runs",
    "benchmark": "measure how fast an experiment trains on this machine",
    "convert": "convert weights to and from PyTorch's timm",
    "export": "write a trained run for other programs: ONNX, StableHLO, timm",
    "models": "list the models, or show the parts of one",
    "fields": "list the fields that --config.FIELD=VALUE can change",
}


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Args:
      argv: program name and arguments; None takes those of this process.

    Returns:
      The exit code; 2 for errors that the user can fix.
    """
    _open_closed_streams()
    owns_process, call = argv is None, read_call(argv)
    if not call.arguments:
        print(usage(), file=sys.stderr)
        return 2
    first, *others = call.arguments
    if first == "--version":
        return guarded(lambda: print(f"hybrid-jax {hybrid_jax.__version__}"))
    if first in COMMANDS:
        return execute(
            load_command(first), Call(call.program, first, others), owns_process
        )
    if not first.startswith("-"):
        return guarded(lambda: _refuse(first))
    command = load_command("train")._replace(text=usage(), run=_run_unnamed)
    return execute(command, call, owns_process)


def _open_closed_streams() -> None:
    """Open each standard stream that is closed, as those of some daemons are."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def load_command(name: str) -> Command:
    """Import and return a command of `COMMANDS`."""
    return importlib.import_module(f"hybrid_jax.cli.{name}").COMMAND


def usage() -> str:
    """Return the help of the whole program."""
    commands = "\n".join(f"  {name:12} {what}" for name, what in COMMANDS.items())
    return (
        f"{__doc__}\nCommands:\n{commands}\n\n"
        "Flags: `hybrid-jax COMMAND --help`. Version: `hybrid-jax --version`."
    )


def _run_unnamed(call: Call) -> int | None:
    """Train, or evaluate with `--mode=eval`, as before there were subcommands."""
    from hybrid_jax.cli.flags import split_mode

    name, arguments = split_mode(call.arguments)
    return load_command(name).run(call._replace(arguments=arguments))


def _refuse(word: str) -> None:
    """Refuse a word that is not a subcommand.

    Raises:
      UserError: always; the message names a similar subcommand.
    """
    if is_config(word):
        raise UserError(f"{word} is no command: write --config={word}")
    hint = closest(word, COMMANDS) or f": give one of {', '.join(COMMANDS)}"
    raise UserError(f"{word} is no command{hint} (see --help)")


if __name__ == "__main__":
    sys.exit(main())
