"""Read the configs that are stored in the folders of runs, and compare them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid_jax.config import rules
from hybrid_jax.config.resolve import flatten
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.errors import UserError, elide, listed
from hybrid_jax.paths import expand_user

SCHEMA = 3  # version of the configs that are written today
WITH_VALIDATION = 2  # the first schema whose runs have a validation split
OF_OPEN_TABLES = ("model.name", "loss.name", "optim.name", "optim.schedule")
MOVED = {  # since schema 3
    "optim.label_smoothing": "loss.label_smoothing",
    "optim.class_weights": "loss.class_weights",
}


def check_schema(found: Any, where: object) -> int:
    """Return the version of a stored layout, if this program can read it.

    Args:
      found: the version as it was read.
      where: folder that holds it.

    Raises:
      UserError: the version is newer than this program, or is none.
    """
    if type(found) is not int or not 1 <= found <= SCHEMA:
        is_newer = type(found) is int and found > SCHEMA
        raise UserError(
            f"{where} holds a run of layout {elide(repr(found))}, and this version "
            f"of hybrid_jax reads 1 to {SCHEMA}: "
            + ("update hybrid_jax" if is_newer else "restore its config")
        )
    return found


def read(stored: dict[str, Any], schema: int, where: object) -> Config:
    """Return a stored config with today's fields.

    A field that is newer than the stored config has its default, which is what the
    program did before the field existed.

    Args:
      stored: nested values, as in the folder.
      schema: version that they were written with, from 1 to `SCHEMA`.
      where: folder that holds them.

    Raises:
      UserError: the stored config names no model, or has a field that a later version
        has added.
    """
    values = flatten(stored)
    if "model.name" not in values:
        raise UserError(
            f"the config of {where} names no model: restore it, or give another workdir"
        )
    if schema < WITH_VALIDATION:
        # `data.fold` was an earlier name of `data.validation`. Without a fold, runs
        # trained on all images and used the last weights.
        fold = values.pop("data.fold", "")
        values.setdefault("data.validation", fold or 0)
    for old, new in MOVED.items():
        if old in values:
            values[new] = values.pop(old)
    if unknown := [f"config.{name}" for name in values if name not in FIELDS]:
        raise UserError(
            f"{where} has {listed(unknown)}, which this version of hybrid_jax does not "
            "know: update hybrid_jax"
        )
    return Config.from_flat(values)


def check_rows(config: Config, where: str) -> None:
    """Refuse a config that names a row which is not in its table.

    A config file or a program may add rows, such as a model, before it trains.

    Args:
      config: a stored config.
      where: folder of its run, as users read it.

    Raises:
      UserError: names the fields, and the way out.
    """
    values = config.flat()
    missing = [
        f"config.{name}={values[name]}"
        for name in OF_OPEN_TABLES
        if not FIELDS[name].rule.holds(values[name])
    ]
    if missing:
        raise UserError(
            f"the run of {where} uses {listed(missing)}, which is not in the tables of "
            "this program: if a file of yours adds it, run a program that imports this "
            "file first"
        )


def nested(
    config: Config, shown: Callable[[Path], object] = Path.absolute
) -> dict[str, Any]:
    """Return a config as nested values for a file.

    Args:
      config: config of a run.
      shown: returns what is written of a path.
    """
    tree: dict[str, Any] = {}
    for name, value in config.flat().items():
        if value and _is_path(name):
            value = str(shown(expand_user(value)))
        group, _, leaf = name.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[leaf] = value
    return tree


def differences(theirs: Config, ours: Config) -> list[str]:
    """Return in words which fields of two configs differ, except free fields.

    Args:
      theirs: the stored config.
      ours: the config that is asked for.
    """
    here, there = ours.flat(), theirs.flat()
    return [
        f"config.{name} is {there[name]!r} there and {here[name]!r} here"
        for name in FIELDS
        if not (FIELDS[name].free or _is_alike(name, there[name], here[name]))
    ]


def _is_path(name: str) -> bool:
    return FIELDS[name].rule is rules.PATH


def _is_alike(name: str, theirs: Any, ours: Any) -> bool:
    """Return whether two values of a field are equivalent.

    A relative path also equals a longer one that ends in it, as on another machine.
    """
    if not (_is_path(name) and theirs and ours):
        return theirs == ours
    theirs, ours = expand_user(theirs), expand_user(ours)
    if theirs.absolute() == ours.absolute():
        return True
    return not ours.is_absolute() and theirs.parts[-len(ours.parts) :] == ours.parts
