"""Configs as the folder of a run keeps them: read, brought up to date, compared."""

from typing import Any

from hybrid_jax.config import rules
from hybrid_jax.config.resolve import flatten
from hybrid_jax.config.schema import FIELDS, Config
from hybrid_jax.config.suggestions import unknown_field
from hybrid_jax.errors import UserError
from hybrid_jax.paths import expand_user

SCHEMA = 3  # of what is written today
WITH_VALIDATION = 2  # the first schema whose runs have a validation split
MOVED = {  # since schema 3
    "optim.label_smoothing": "loss.label_smoothing",
    "optim.class_weights": "loss.class_weights",
}


def read(stored: dict[str, Any], schema: int) -> Config:
    """Return a stored config in the fields of today.

    A field that the stored config does not have yet is at its default, which means what
    the program did before there was the field.

    Args:
      stored: nested, as it lies in the folder.
      schema: that it was written with, from 1 to `SCHEMA`.

    Raises:
      UserError: it has a field that there has never been.
    """
    values = flatten(stored)
    if schema < WITH_VALIDATION:
        # A fold was what is the validation split now. Without one, all images were
        # trained on, and the last weights counted.
        fold = values.pop("data.fold", "")
        values.setdefault("data.validation", fold or 0)
    for old, new in MOVED.items():
        if old in values:
            values[new] = values.pop(old)
    for name in values:
        if name not in FIELDS:
            raise UserError(unknown_field(name))
    return Config.from_flat(values)


def nested(config: Config) -> dict[str, Any]:
    """Return a config to be stored: paths are absolute, so they mean one thing."""
    tree: dict[str, Any] = {}
    for name, value in config.flat().items():
        if value and _is_path(name):
            value = str(expand_user(value).absolute())
        group, _, leaf = name.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[leaf] = value
    return tree


def differences(theirs: Config, ours: Config) -> list[str]:
    """List in words the fields that tell two runs apart, but for free ones.

    Args:
      theirs: as stored.
      ours: as asked for.
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
    """Whether two values of a field mean one thing.

    A relative path does, on another machine or from another folder too.
    """
    if not (_is_path(name) and theirs and ours):
        return theirs == ours
    theirs, ours = expand_user(theirs), expand_user(ours)
    if theirs.absolute() == ours.absolute():
        return True
    return not ours.is_absolute() and theirs.parts[-len(ours.parts) :] == ours.parts
