"""Declare the fields of a config's groups, and read them off the dataclasses."""

import dataclasses
from typing import Any, NamedTuple

from hybrid_jax.config.rules import Rule


class Field(NamedTuple):
    """What is known of a field beside its name.

    Attributes:
      default: its value where nobody sets it.
      rule: what it may be.
      meaning: in words, with units.
      free: whether it may differ between a run and its resumption, since it changes
        no result.
      local: whether it is about the machine: hosts of one run may differ in it.
      types: of its values, the type of the default if there is one alone.
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
    """Declare a field of a group, see `Field`; a local field is free too."""
    types = types or ((float, int) if type(default) is float else (type(default),))
    known = Field(default, rule, meaning, free or local, local, types)
    return dataclasses.field(default=default, metadata={"field": known})


def value_of(config: Any, name: str) -> Any:
    """Return `config.optim.learning_rate` of the name `optim.learning_rate`."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def fields_of(group: Any, above: str = "") -> dict[str, Field]:
    """Return the fields of a dataclass and of its groups, by name."""
    found: dict[str, Field] = {}
    for member in dataclasses.fields(group):
        name = f"{above}{member.name}"
        if "field" in member.metadata:
            found[name] = member.metadata["field"]
        else:
            found |= fields_of(member.default, f"{name}.")
    return found
