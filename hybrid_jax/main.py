"""Train image classifiers that mix convolutions and attention.

  hybrid-jax --config=configs/digits.py

trains a small network on handwritten digits, in a minute or two, and writes
the results to runs/digits. Run the same command again to resume. Change any
setting of the experiment on the command line:

  hybrid-jax --config=configs/digits.py --config.train.epochs=20
"""

import importlib
import sys

from hybrid_jax.cli.common import (
    Call,
    Command,
    execute,
    guarded,
    is_config,
    read_call,
)
from hybrid_jax.errors import UserError, closest

COMMANDS = {  # each a module of hybrid_jax.cli
    "train": "train, or resume, a run; this is what --config=FILE alone does",
    "evaluate": "measure the accuracy of a trained run",
    "predict": "say what a trained run sees in images",
    "inspect": "look for problems in a data set before you train on it",
    "benchmark": "measure how fast an experiment trains on this machine",
    "convert": "convert weights to and from PyTorch's timm",
    "models": "list the models, or show what one is made of",
    "fields": "list what --config.FIELD=VALUE can change",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
      argv: program and arguments; None takes those of this process.

    Returns:
      The exit code; 2 for what the user can mend.
    """
    alone, call = argv is None, read_call(argv)
    if not call.arguments:
        print(usage(), file=sys.stderr)
        return 2
    first, *others = call.arguments
    if first in COMMANDS:
        named = Call(call.program, first, others)
        return execute(load(first), named, alone)
    if not first.startswith("-"):
        return guarded(lambda: _refuse(first))
    command = load("train")._replace(text=usage(), run=_run_unnamed)
    return execute(command, call, alone)


def load(name: str) -> Command:
    """Returns the command of a name in `COMMANDS`."""
    return importlib.import_module(f"hybrid_jax.cli.{name}").COMMAND


def usage() -> str:
    """Returns the help of the program as a whole."""
    commands = "\n".join(f"  {name:10} {what}" for name, what in COMMANDS.items())
    return (
        f"{__doc__}\nCommands:\n{commands}\n\n"
        "`hybrid-jax COMMAND --help` says more about one.\n"
        "`python -m hybrid_jax.main` is the same program as `hybrid-jax`."
    )


def _run_unnamed(call: Call) -> int | None:
    """Trains, or evaluates with `--mode=eval`, which is older than the subcommands."""
    from hybrid_jax.cli.flags import split_mode

    name, arguments = split_mode(call.arguments)
    return load(name).run(call._replace(arguments=arguments))


def _refuse(word: str) -> None:
    """Refuses a word that is no subcommand.

    Raises:
      UserError: says which are near.
    """
    if is_config(word):
        raise UserError(f"{word} is no command: write --config={word}")
    near = closest(word, COMMANDS) or f": give one of {', '.join(COMMANDS)}"
    raise UserError(f"{word} is no command{near} (see --help)")


if __name__ == "__main__":
    sys.exit(main())
