"""Declare the fields of a config, and list those of its dataclasses."""

import dataclasses
from typing import Any, NamedTuple

from hybrid_jax.config.rules import Rule


class Field(NamedTuple):
    """A field of a config, without its name.

    Attributes:
      default: value if nobody sets the field.
      rule: the allowed values.
      meaning: description in words, with units.
      free: whether the field may change when a run is resumed, since the batches and
        the updates of a step do not depend on it.
      local: whether the field is about the machine, so that the hosts of one run may
        have different values.
      types: allowed types of the value.
    """

    default: Any
    rule: Rule
    meaning: str
    free: bool
    local: bool
    types: tuple[type, ...]


def field(
    default: Any,
    rule: Rule,
    meaning: str,
    *,
    free: bool = False,
    local: bool = False,
    types: tuple[type, ...] = (),
) -> Any:
    """Declare a field of a dataclass; a local field is free too.

    See `Field` for the arguments. Without `types`, the type of the default is allowed,
    and a whole number where the default is a float.
    """
    types = types or ((float, int) if type(default) is float else (type(default),))
    known = Field(default, rule, meaning, free or local, local, types)
    return dataclasses.field(default=default, metadata={"field": known})


def value_of(config: Any, name: str) -> Any:
    """Return the value of a field by its name, such as `optim.learning_rate`."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def fields_of(group: Any, above: str = "") -> dict[str, Field]:
    """Return the fields of a dataclass and of its groups, by name.

    Args:
      group: a dataclass whose members are fields or other groups.
      above: start of all names, such as `optim.`.
    """
    found: dict[str, Field] = {}
    for member in dataclasses.fields(group):
        name = f"{above}{member.name}"
        if "field" in member.metadata:
            found[name] = member.metadata["field"]
        else:
            found |= fields_of(member.default, f"{name}.")
    return found


def as_typed(value: Any) -> str:
    """Return a value as the command line takes it: `60,80`, `true`, or nothing.

    Texts are quoted, since a comma may be part of one: `('stem', 'stage1')`.
    """
    if isinstance(value, (tuple, list)):
        if any(isinstance(item, str) for item in value):
            return str(tuple(value))
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
