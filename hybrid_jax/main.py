"""Trains or evaluates an image classifier.

  hybrid-jax --config=configs/digits.py --workdir=runs/digits
  hybrid-jax --config=configs/cifar10.py:astroformer_3 --workdir=runs/c10 \\
      --config.optim.learning_rate=5e-4 --config.train.epochs=300
  hybrid-jax --mode=eval --workdir=runs/digits

The same command again continues where the run stopped. `python -m hybrid_jax.main` is
the same program.
"""

import os
import sys
import textwrap
import threading

from absl import flags
from ml_collections import ConfigDict

from hybrid_jax import config as configs
from hybrid_jax.command import guarded, memory_told, restart_with_huge_pages
from hybrid_jax.errors import UserError
from hybrid_jax.flags import asks_for_help
from hybrid_jax.flags import parse as parse_flags
from hybrid_jax.models.table import list_models

MODES = {
    "train": "train, or continue, the run in the workdir",
    "eval": "evaluate its newest checkpoint; --config may be left out",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 for what the user can mend."""
    alone = argv is None
    if alone:
        restart_with_huge_pages()
        argv = sys.argv
    if asks_for_help(argv):
        return guarded(lambda: print(usage(), flush=True))
    code = guarded(lambda: run(*parse(argv)))
    if alone and code > 128:
        _leave_compilers(code)
    return code


def _leave_compilers(code: int) -> None:
    """Ends the process at once if threads still compile: they cannot be stopped."""
    if any(thread.name.startswith("compiler") for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(code)


def run(mode: str, config: ConfigDict | None, workdir: str) -> None:
    """Starts what the flags ask for."""
    # Imported here, so that a mistake in the flags is told before jax is loaded.
    from hybrid_jax.evaluate import evaluate
    from hybrid_jax.training.loop import train

    with memory_told():
        {"train": train, "eval": evaluate}[mode](config, workdir)


def parse(argv: list[str]) -> tuple[str, ConfigDict | None, str]:
    """Mode, config and workdir of a command line.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
        flags.DEFINE_enum("mode", "train", MODES, "what to do", flag_values=values)

    values, config = parse_flags(argv, define)
    if not values.workdir:
        raise UserError("--workdir is missing: give the folder of the run")
    if values.mode == "train" and config is None:
        raise UserError("--config is missing: give one, such as configs/digits.py")
    if config is not None:
        configs.validate(config)
    return values.mode, config, values.workdir


def usage() -> str:
    """What `--help` prints: the commands, the models, every field of a config."""
    modes = "\n".join(f"  --mode={name:6} {what}" for name, what in MODES.items())
    models = textwrap.fill(
        ", ".join(list_models()), 88, initial_indent="  ", subsequent_indent="  "
    )
    return (
        f"{__doc__}\n"
        f"  --config=FILE[:MODEL]  the experiment, a file of configs/\n"
        f"  --workdir=DIR          folder of the run\n{modes}\n\n"
        f"Models:\n{models}\n\n"
        f"Fields of a config, with [defaults]:\n{configs.describe()}"
    )


if __name__ == "__main__":
    sys.exit(main())
