"""The flags that commands share: `--config`, and `--config.FIELD` for its fields."""

import typing
from collections.abc import Callable

from absl import flags
from ml_collections import ConfigDict, config_flags

from hybrid_jax.errors import UserError

HELP = {"--help", "-h", "--helpfull", "-help"}


def asks_for_help(argv: list[str]) -> bool:
    """Whether a command line is about the command itself."""
    return bool(HELP & {*argv[1:]})


def names_config(argv: list[str]) -> bool:
    """Whether a command line has `--config` itself, not only fields of one."""
    return any(argument.split("=")[0] in ("--config", "-config") for argument in argv)


def changed_fields(values: flags.FlagValues) -> dict[str, typing.Any]:
    """The values of all `--config.FIELD` of a command line, by field."""
    return dict(config_flags.get_override_values(values["config"]))


def parse(
    argv: list[str],
    define: Callable[[flags.FlagValues], None],
    base: ConfigDict | None = None,
) -> tuple[flags.FlagValues, ConfigDict | None]:
    """The flags of a command line, and the config, locked and not yet validated.

    Args:
      argv: the command and its arguments.
      define: adds the command's own flags.
      base: what `--config.FIELD` changes, where `--config` names no file.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """
    values = flags.FlagValues()
    shared = {"flag_values": values, "sys_argv": argv}
    define(values)
    try:
        if base is None:
            text = "experiment: a file, or file:model"
            config_flags.DEFINE_config_file("config", None, text, **shared)
        else:  # whose fields are looked up at once
            config_flags.DEFINE_config_dict("config", base, **shared)
        stray = values(argv)[1:]
        # A config that could not be loaded raises when it is first looked at.
        config = values.config and values.config.lock()
    except flags.Error as error:
        raise UserError(f"{error} (see --help)") from None
    except Exception as error:  # a config file may raise anything
        raise UserError(_config_error(error)) from None
    if stray:
        raise UserError(f"stray argument {stray[0]!r}: every option begins with --")
    return values, config


def _config_error(error: Exception) -> str:
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    # A KeyError would be shown with quotes around what it says.
    text = " ".join(str(error.args[0] if error.args else error).split())
    if isinstance(error, (AttributeError, KeyError)) and "Did you mean" in text:
        name = text.split()[0].strip("'\"")
        return f"no field {name!r} in the config. {text.split(maxsplit=1)[1]}"
    if isinstance(error, OSError):
        return f"--config cannot be read: {text.split('Attempted')[-1]}"
    return f"--config cannot be loaded: {type(error).__name__}: {text}"
