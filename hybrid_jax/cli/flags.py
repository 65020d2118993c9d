"""Flags on a command line: `--name=value`, and `--config.FIELD=value` for fields."""

import difflib
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from hybrid_jax.cli.common import is_config
from hybrid_jax.cli.options import TEXT, Kind, Option, one_of
from hybrid_jax.config.files import SUCH_AS, load_config
from hybrid_jax.config.resolve import parse_value, resolve
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.config.suggestions import NEAR, nearest, unknown_field
from hybrid_jax.errors import UserError

FIELD = "config."  # what the flags of fields begin with
CONFIG = Option("config", TEXT)  # a file, or file:model
MODES = {"train": "train", "eval": "evaluate"}  # with their subcommands


class Parsed(NamedTuple):
    """What a command line says.

    Attributes:
      values: of the command's own flags and of `--config`, by name.
      config: locked and not yet validated; None without `--config`.
      changed: the fields that the command line sets, by name.
      others: the arguments that are no flags.
    """

    values: dict[str, Any]
    config: ConfigDict | None
    changed: dict[str, Any]
    others: list[str]


def parse(arguments: list[str], options: Iterable[Option]) -> Parsed:
    """Parses the command line of a command that takes a config.

    Args:
      arguments: what follows the command.
      options: the command's own flags.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """
    known = _defined([CONFIG, *options])
    for name, field in FIELDS.items():
        kind = Kind("", lambda text, name=name: parse_value(name, text))
        _define(known, Option(FIELD + name, kind), isinstance(field.default, bool))
    others = _read(known, arguments)
    changed = {
        name: known[FIELD + name].value
        for name in FIELDS
        if known[FIELD + name].present
    }
    values = {option.name: known[option.name].value for option in (CONFIG, *options)}
    config = None
    if values["config"] is not None:
        config = load_config(values["config"], changed)
    return Parsed(values, config, changed, others)


def needed_config(parsed: Parsed) -> Config:
    """Return the config of a command line, resolved.

    Raises:
      UserError: there is none, or it is not right.
    """
    if parsed.config is None:
        raise UserError(f"--config is missing: give one, {SUCH_AS}")
    return resolve(parsed.config)


def parse_plain(
    arguments: list[str], options: Iterable[Option], places: int = 0
) -> Parsed:
    """Parses the command line of a command that takes no config.

    Args:
      arguments: what follows the command.
      options: the command's flags.
      places: how many arguments may be no flags.

    Raises:
      UserError: a flag or a value that is not right, or too many arguments.
    """
    known = _defined(options)
    others = _read(known, arguments, places)
    values = {option.name: known[option.name].value for option in options}
    return Parsed(values, None, {}, others)


def split_mode(arguments: list[str]) -> tuple[str, list[str]]:
    """Reads `--mode=train` or `--mode=eval`, and leaves it out.

    Args:
      arguments: of a command line without a subcommand.

    Returns:
      The subcommand that is meant, and the arguments for it.

    Raises:
      UserError: another mode.
    """
    known = _defined([Option("mode", one_of(*MODES), "train")])
    expanded = _with_flagfiles(known, arguments)
    try:
        others = known(["hybrid-jax", *expanded], known_only=True)[1:]
    except flags.Error as error:
        raise UserError(f"{error} (see --help)") from None
    # Without a mode the command line stays as the user typed it.
    return MODES[known.mode], others if known["mode"].present else arguments


class _Parser(flags.ArgumentParser):
    """Reads a flag's value."""

    def __init__(self, option: Option):
        self.option = option

    def parse(self, text: Any) -> Any:
        name, kind, _ = self.option
        try:
            return kind.read(text)
        except ValueError:
            raise UserError(
                f"--{name}={text or repr(text)} is not allowed: {kind.allowed}"
            ) from None


def _defined(options: Iterable[Option]) -> flags.FlagValues:
    known = flags.FlagValues()
    known.set_gnu_getopt(True)  # flags may follow what is none
    for option in options:
        _define(known, option, isinstance(option.default, bool))
    return known


def _define(known: flags.FlagValues, option: Option, boolean: bool) -> None:
    """Adds a flag; a boolean one may lack a value, and has a form with `no`."""
    flag = flags.Flag(
        parser=_Parser(option),
        serializer=None,
        name=option.name,
        default=None,
        help_string="",
        boolean=boolean,
    )
    flag.value = option.default
    flags.DEFINE_flag(flag, known)


def _read(known: flags.FlagValues, arguments: list[str], places: int = 0) -> list[str]:
    """Sets flags from a command line, and from the files of its `--flagfile`.

    Args:
      known: the flags that there are; is changed.
      arguments: what follows the command.
      places: how many arguments may be no flags.

    Returns:
      The arguments that are no flags.

    Raises:
      UserError: a flag or a value that is not right, or too many arguments.
    """
    arguments = _with_flagfiles(known, arguments)
    _check_values_follow(known, arguments)
    try:
        others = known(["hybrid-jax", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        raise UserError(f"{_unknown(error.flagname, known)}") from None
    except (flags.Error, ValueError) as error:
        raise UserError(f"{error} (see --help)") from None
    if len(others) > places:
        stray = others[places]
        meant = "every option begins with --"
        if CONFIG.name in known and is_config(stray):
            meant = f"write --config={stray}"
        raise UserError(f"stray argument {stray!r}: {meant}")
    return others


def _with_flagfiles(known: flags.FlagValues, arguments: list[str]) -> list[str]:
    """Puts the lines of flag files in the place of the flags that name them."""
    if {"--flagfile=", "-flagfile="} & {*arguments}:
        raise UserError("--flagfile is empty: give a file with a flag on each line")
    try:
        return known.read_flags_from_files(arguments, force_gnu=False)
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


def _check_values_follow(known: flags.FlagValues, arguments: list[str]) -> None:
    """Refuses `--workdir --mode=eval`, where a flag would be taken for a value."""
    for argument, following in itertools.pairwise(arguments):
        name = argument.lstrip("-")
        takes = name == "undefok" or (name in known and not known[name].boolean)
        if argument.startswith("-") and takes and following.startswith("--"):
            raise UserError(f"--{name} has no value before {following} (see --help)")


def _unknown(name: str, known: flags.FlagValues) -> str:
    """Says that there is no such flag, and which are near."""
    takes_fields = CONFIG.name in known
    fields = []
    if takes_fields and name.startswith(FIELD):
        return f"{unknown_field(name.removeprefix(FIELD))} (see `hybrid-jax fields`)"
    if takes_fields and name.startswith(f"no{FIELD}"):
        field = name.removeprefix(f"no{FIELD}")
        if field in FIELDS:
            return f"--{name}: config.{field} is not one of true and false"
        return f"{unknown_field(field)} (see `hybrid-jax fields`)"
    if takes_fields:
        fields = [FIELD + field for field in nearest(name)]
    own = [flag for flag in known if not flag.startswith(FIELD)]
    near = difflib.get_close_matches(name, own, 1, NEAR) or fields
    meant = f", did you mean --{near[0]}?" if near else ""
    return f"--{name} does not exist{meant} (see --help)"
