"""Trains or evaluates an image classifier.

  hybrid-jax --config=configs/digits.py --workdir=runs/digits
  hybrid-jax --config=configs/cifar10.py:astroformer_3 --workdir=runs/c10 \\
      --config.optim.learning_rate=5e-4 --config.train.epochs=300
  hybrid-jax --mode=eval --workdir=runs/digits

The same command again continues where the run stopped. `python -m hybrid_jax.main` is
the same program.
"""

import sys
import textwrap

from absl import flags
from ml_collections import ConfigDict, config_flags

from hybrid_jax import config as configs
from hybrid_jax.command import guarded
from hybrid_jax.errors import UserError
from hybrid_jax.models.table import list_models

MODES = {
    "train": "train, or continue, the run in the workdir",
    "eval": "evaluate its newest checkpoint; --config may be left out",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 for what the user can mend."""
    argv = sys.argv if argv is None else argv
    if {"--help", "-h", "--helpfull", "-help"} & {*argv[1:]}:
        return guarded(lambda: print(usage(), flush=True))
    return guarded(lambda: run(*parse(argv)))


def run(mode: str, config: ConfigDict | None, workdir: str) -> None:
    """Starts what the flags ask for."""
    # Imported here, so that a mistake in the flags is told before jax is loaded.
    from jax.errors import JaxRuntimeError

    from hybrid_jax.evaluate import evaluate
    from hybrid_jax.training.loop import train

    try:
        {"train": train, "eval": evaluate}[mode](config, workdir)
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "the device is out of memory: lower config.train.batch_size or "
            "config.train.eval_batch_size, raise config.optim.accumulate, or take a "
            "smaller model"
        ) from None


def parse(argv: list[str]) -> tuple[str, ConfigDict | None, str]:
    """Mode, config and workdir of a command line.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        None,
        "experiment: a file, or file:model",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    flags.DEFINE_enum("mode", "train", MODES, "what to do", flag_values=values)
    try:
        stray = values(argv)[1:]
        # A config that could not be loaded raises when it is first looked at.
        config = values.config and values.config.lock()
    except flags.Error as error:
        raise UserError(f"{error} (see --help)") from None
    except Exception as error:  # a config file may raise anything
        raise UserError(_config_error(error)) from None
    if stray:
        raise UserError(f"stray argument {stray[0]!r}: every option begins with --")
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


def _config_error(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, (AttributeError, KeyError)) and "Did you mean" in text:
        name = text.split()[0].strip("'\"")
        return f"no field {name!r} in the config. {text.split(maxsplit=1)[1]}"
    if isinstance(error, OSError):
        return f"--config cannot be read: {text.split('Attempted')[-1]}"
    return f"--config cannot be loaded: {type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
