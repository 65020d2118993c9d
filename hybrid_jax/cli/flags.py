"""Parse a command line: `--name=value`, and `--config.FIELD=value` for fields."""

import argparse
import collections
import dataclasses
import difflib
import functools
import itertools
import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from hybrid_jax.cli.common import is_config, print_line
from hybrid_jax.cli.options import TEXT, Kind, Option, one_of
from hybrid_jax.config.effects import check_changed
from hybrid_jax.config.files import SUCH_AS, load_config
from hybrid_jax.config.resolve import flatten, parse_value, resolve
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.config.suggestions import NEAR, nearest, unknown_field
from hybrid_jax.errors import UserError

FIELD = "config."  # the flags of fields begin with this
CONFIG = Option("config", TEXT)
MODES = {"train": "train", "eval": "evaluate"}  # values of --mode and subcommands
MODE = Option("mode", one_of(*MODES), "train")


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A parsed command line.

    Attributes:
      values: value of each flag of the command, by name.
      changed: the fields that the command line sets, by name.
      positional: the arguments that are not flags.
    """

    values: dict[str, Any]
    changed: dict[str, Any]
    positional: list[str]

    @functools.cached_property
    def config(self) -> ConfigDict | None:
        """Return the experiment, not yet resolved; None without `--config`.

        Raises:
          UserError: the config file is wrong or takes a model, or a field that is
            changed has no effect.
        """
        name = self.values.get("config")
        if name is None:
            return None
        config = load_config(name, self.changed)
        check_changed(self.changed, flatten(config))
        return config


def parse(
    arguments: list[str],
    options: Sequence[Option],
    takes_config: bool = False,
    most: int = 0,
) -> Parsed:
    """Parse the command line of a command.

    Args:
      arguments: what follows the command.
      options: flags of the command.
      takes_config: whether the command also has `--config` and the flags of fields.
      most: number of positional arguments that the command accepts.

    Raises:
      UserError: a flag or a value is wrong, or there are too many arguments.
    """
    options = [*options, *([CONFIG, *map(_field_option, FIELDS)] * takes_config)]
    switches = [option.name for option in options if isinstance(option.default, bool)]
    words = _expand_flagfiles(arguments)
    end = words.index("--") if "--" in words else len(words)
    flagged = [_spell_out(word, switches) for word in words[:end]]
    found, others = _read(flagged, options)
    for word in others:
        if re.match("-.", word):
            for given in words[:end] if most else ():
                if _spell_out(given, switches) == word and os.path.lexists(given):
                    raise UserError(
                        f"{given} is no flag: for the file, write ./{given}"
                    )
            name = word.lstrip("-").partition("=")[0]
            raise UserError(_unknown(name, options, takes_config))
    _tell_repeated([_spell_out(word, switches) for word in arguments], options)
    positional = others + words[end + 1 :]
    if len(positional) > most:
        stray = positional[most]
        hint = "every option begins with --"
        if most == 1:
            hint = f"give one of {positional[0]!r} and {stray!r}; options begin with --"
        if takes_config and is_config(stray):
            hint = f"write --config={stray}"
        elif switch := _switch_before(stray, words[:end], switches):
            hint = f"write --{switch}={stray}"
        raise UserError(f"stray argument {stray!r}: {hint}")
    values = {option.name: option.default for option in options} | found
    changed = {name: found[FIELD + name] for name in FIELDS if FIELD + name in found}
    return Parsed(values, changed, positional)


def required_config(parsed: Parsed) -> Config:
    """Return the checked config of a command line.

    Raises:
      UserError: there is no `--config`, or the config is wrong.
    """
    required_experiment(parsed)
    return resolve(parsed.config)


def required_data(parsed: Parsed, also: Sequence[str] = ()) -> Config:
    """Return the checked config of a command that uses its data alone.

    Args:
      parsed: the command line.
      also: names of further fields that the command uses, such as `seed`.

    Raises:
      UserError: there is no `--config`, the config is wrong, or another field is
        changed, which would have no effect.
    """
    for name in parsed.changed:
        if not name.startswith("data.") and name not in also:
            fields = " and ".join(["config.data", *(f"config.{n}" for n in also)])
            raise UserError(
                f"--config.{name} has no effect on this command, which uses "
                f"{fields} alone: leave it out"
            )
    return required_config(parsed)


def required_experiment(parsed: Parsed) -> str:
    """Return the value of `--config`, as it was typed.

    Raises:
      UserError: there is none.
    """
    name = parsed.values["config"]
    if name is None:
        raise UserError(f"--config is missing: give one, {SUCH_AS}")
    return str(name)


def split_mode(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the subcommand that `--mode` names, and the other arguments.

    Args:
      arguments: a command line without a subcommand.

    Raises:
      UserError: `--mode` is neither `train` nor `eval`.
    """
    words = [_spell_out(word, ()) for word in _expand_flagfiles(arguments)]
    typed = [_spell_out(word, ()) for word in arguments]
    _tell_repeated(typed, [MODE])
    found, others = _read(words, [MODE])
    if "mode" not in found:
        return MODES[MODE.default], arguments  # as the user typed them
    left = _without(typed, MODE.name)
    return MODES[found["mode"]], others if left == typed else left


def with_value(words: list[str], name: str, value: object) -> list[str]:
    """Return a command line in which a flag is typed once, with another value.

    Args:
      words: the command line.
      name: of the flag, which takes a value.
      value: its value, also if a flagfile has another.
    """
    left = _without(words, name)
    end = left.index("--") if "--" in left else len(left)
    return [*left[:end], f"--{name}={value}", *left[end:]]


def _without(words: list[str], name: str) -> list[str]:
    """Return a command line without a flag that takes a value."""
    end = words.index("--") if "--" in words else len(words)
    kept, left = [], iter(words[:end])
    for word in left:
        spelled = _spell_out(word, ())
        if spelled == f"--{name}":
            next(left, None)  # its value is a word of its own
        elif not spelled.startswith(f"--{name}="):
            kept.append(word)
    return [*kept, *words[end:]]


def _field_option(name: str) -> Option:
    """Return the flag of a field."""
    kind = Kind("", partial(parse_value, name))
    return Option(FIELD + name, kind, FIELDS[name].default)


def _read(
    words: list[str], options: Sequence[Option]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the given flags, and all other words in their order."""
    parser = argparse.ArgumentParser(
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        exit_on_error=False,
    )
    for option in options:
        read = partial(_read_value, option)
        parser.add_argument(f"--{option.name}", dest=option.name, type=read)
    try:
        found, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UserError(f"{error.argument_name} has no value (see --help)") from None
    return vars(found), others


def _tell_repeated(words: list[str], options: Sequence[Option]) -> None:
    """Say which flags were typed twice, since all values but the last are left out.

    What is typed may change a flag of a flagfile without a word.
    """
    typed = words[: words.index("--")] if "--" in words else words
    counts = collections.Counter(word.partition("=")[0] for word in typed)
    for option in options:
        if counts[f"--{option.name}"] > 1:
            print_line(
                f"--{option.name} is given {counts[f'--{option.name}']} times; "
                "the last value counts"
            )


def _read_value(option: Option, text: str) -> Any:
    # As from an empty variable of a shell. `--config` names examples itself.
    if option.kind is TEXT and not text and option is not CONFIG:
        raise UserError(f"--{option.name} is empty: give it a value")
    try:
        return option.kind.read(text)
    except ValueError:
        raise UserError(
            f"--{option.name}={text or repr(text)} is not allowed: "
            f"{option.kind.allowed}"
        ) from None


def _spell_out(word: str, switches: Sequence[str]) -> str:
    """Return a flag with two dashes, and a switch with its value; else the word."""
    match = re.fullmatch("--?([a-zA-Z].*)", word, re.DOTALL)
    if not match:
        return word
    name = match[1]
    if name in switches:
        return f"--{name}=true"
    if name.startswith("no") and name[2:] in switches:
        return f"--{name[2:]}=false"
    return f"--{name}"


def _switch_before(value: str, words: list[str], switches: Sequence[str]) -> str:
    """Return the switch that `true` or `false` stands behind; empty if none."""
    if value.lower() in ("true", "false"):
        for before, word in itertools.pairwise(words):
            if word == value and before.lstrip("-") in switches:
                return before.lstrip("-")
    return ""


def _expand_flagfiles(arguments: list[str]) -> list[str]:
    """Replace `--flagfile=FILE` by the flags in the file, one on each line.

    Raises:
      UserError: a file cannot be read.
    """
    if {"--flagfile=", "-flagfile="} & {*arguments}:
        raise UserError("--flagfile is empty: give a file with a flag on each line")
    try:
        words = flags.FlagValues().read_flags_from_files(arguments, force_gnu=False)
    except flags.CantOpenFlagFileError as error:
        cause = error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(
            f"--flagfile={cause.filename} cannot be read: {cause.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise _no_text() from None
    except flags.Error:
        raise UserError("--flagfile has no value (see --help)") from None
    if any("\0" in word for word in words):
        raise _no_text()
    return [word.removeprefix("\ufeff") for word in words]  # of Windows' editors


def _no_text() -> UserError:
    return UserError("--flagfile holds no text: give a file with a flag on each line")


def _unknown(name: str, options: Sequence[Option], takes_fields: bool) -> str:
    """Return a message that a flag does not exist, with the flag that may be meant."""
    field = re.fullmatch(r"(no)?(?:config|sweep)\.(.*)", name, re.DOTALL)
    if takes_fields and field:
        if field[1] and field[2] in FIELDS:
            return f"--{name}: config.{field[2]} is neither true nor false"
        return f"{unknown_field(field[2])} (see `hybrid-jax fields`)"
    names = [o.name for o in options if "." not in o.name] + ["flagfile"]
    near = difflib.get_close_matches(name, names, 1, NEAR)
    if takes_fields and not near:
        near = [FIELD + field for field in nearest(name)]
    hint = f", did you mean --{near[0]}?" if near else ""
    return f"--{name} does not exist{hint} (see --help)"
