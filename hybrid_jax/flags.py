"""The flags that commands share: `--config`, and `--config.FIELD` for its fields."""

import difflib
import itertools
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from hybrid_jax import config as configs
from hybrid_jax.config_file import load_config
from hybrid_jax.errors import UserError
from hybrid_jax.fields import FIELDS
from hybrid_jax.suggestions import NEAR, nearest, unknown_field

HELP = {"--help", "-h", "-?", "--helpfull", "--helpshort", "-help"}
FIELD = "config."  # what the flags of fields begin with


def asks_for_help(argv: list[str]) -> bool:
    """Whether a command line is about the command itself."""
    return bool(HELP & {*argv[1:]})


def parse(
    argv: list[str], define: Callable[[flags.FlagValues], None]
) -> tuple[flags.FlagValues, ConfigDict | None]:
    """Parses a command line.

    Args:
      argv: the command and its arguments.
      define: adds the command's own flags.

    Returns:
      The flags, and the config, locked and not yet validated; None without `--config`,
      where `changed_fields` tells what was asked for.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """
    values = define_flags(define)
    read_flags(values, argv)
    if values.config is None:
        return values, None
    return values, load_config(values.config, changed_fields(values))


def define_flags(define: Callable[[flags.FlagValues], None]) -> flags.FlagValues:
    """Defines `--config`, a flag for every field, and the command's own flags."""
    values = flags.FlagValues()
    flags.DEFINE_string(
        "config", None, "experiment: a file, or file:model", flag_values=values
    )
    for name, field in FIELDS.items():
        flag = flags.Flag(
            parser=_FieldParser(name),
            serializer=None,
            name=FIELD + name,
            default=None,
            help_string=field.meaning,
            boolean=isinstance(field.default, bool),
        )
        flags.DEFINE_flag(flag, values)
    define(values)
    return values


def changed_fields(values: flags.FlagValues) -> dict[str, Any]:
    """Returns the fields that a command line sets, by name."""
    return {
        name: values[FIELD + name].value
        for name in FIELDS
        if values[FIELD + name].present
    }


def read_flags(values: flags.FlagValues, argv: list[str]) -> None:
    """Sets flags from a command line, and from the files of its `--flagfile`.

    Raises:
      UserError: a flag or a value that is not right.
    """
    arguments = _with_flagfiles(values, argv[1:])
    _check_values_follow(values, arguments)
    try:
        stray = values([argv[0], *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"{_unknown(error.flagname, values)} (see --help)") from None
    except (flags.Error, ValueError) as error:
        raise UserError(f"{error} (see --help)") from None
    if stray:
        raise UserError(f"stray argument {stray[0]!r}: every option begins with --")


class _FieldParser(flags.ArgumentParser):
    """Reads a field's value in the field's own type."""

    def __init__(self, name: str):
        self.name = name

    def parse(self, text: str) -> Any:
        return configs.parse_value(self.name, text)


def _with_flagfiles(values: flags.FlagValues, arguments: list[str]) -> list[str]:
    """Puts the lines of flag files in the place of the flags that name them."""
    if {"--flagfile=", "-flagfile="} & {*arguments}:
        raise UserError("--flagfile is empty: give a file with a flag on each line")
    try:
        return values.read_flags_from_files(arguments, force_gnu=False)
    except flags.CantOpenFlagFileError as error:
        cause = error.__context__
        raise UserError(
            f"--flagfile={cause.filename} cannot be read: {cause.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise UserError(
            "--flagfile holds no text: give a file with a flag on each line"
        ) from None
    except flags.Error as error:
        raise UserError(f"{error} (see --help)") from None


def _check_values_follow(values: flags.FlagValues, arguments: list[str]) -> None:
    """Refuses `--workdir --mode=eval`, where a flag would be taken for a value."""
    for argument, following in itertools.pairwise(arguments):
        name = argument.lstrip("-")
        takes = name == "undefok" or (name in values and not values[name].boolean)
        if argument.startswith("-") and takes and following.startswith("--"):
            raise UserError(f"--{name} has no value before {following} (see --help)")


def _unknown(name: str, values: flags.FlagValues) -> str:
    """Says that there is no such flag, and which are near."""
    if name.startswith(FIELD):
        return unknown_field(name.removeprefix(FIELD))
    if name.startswith(f"no{FIELD}"):
        field = name.removeprefix(f"no{FIELD}")
        if field in FIELDS:
            return f"--{name}: config.{field} is not one of true and false"
        return unknown_field(field)
    fields = [FIELD + field for field in nearest(name)]
    own = [flag for flag in values if not flag.startswith(FIELD)]
    near = difflib.get_close_matches(name, own, 1, NEAR) or fields
    return f"--{name} does not exist" + (f", did you mean --{near[0]}?" if near else "")
