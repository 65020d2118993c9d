"""Configs as a folder keeps them, flat: compared with others, and brought up to date.

Fields that are `free` may differ between a run and its resumption, and a relative path
means the same on another machine.
"""

from typing import Any

from hybrid_jax.config.schema import FIELDS, PATH
from hybrid_jax.paths import expanded


def migrate(stored: dict) -> dict:
    """A config of the first layout, nested, in the fields of this version.

    A fold of the training images was what is now the validation split. Without one, all
    images were trained on, and the last weights counted.
    """
    data = dict(stored.get("data", {}))
    fold = data.pop("fold", "")
    return stored | {"data": {"validation": fold or 0} | data}


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """The fields that tell two runs apart, in words.

    Args:
      theirs: flat, as stored.
      ours: flat, as asked for.
    """
    return [
        f"config.{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here"
        for name in {**theirs, **ours}
        if not (is_free(name) or _same(name, theirs.get(name), ours.get(name)))
    ]


def is_free(name: str) -> bool:
    """Whether a field may differ between a run and its resumption."""
    return name in FIELDS and FIELDS[name].free


def is_default(flat: dict[str, Any], name: str) -> bool:
    """Whether a field has its default."""
    return flat[name] == FIELDS[name].default


def located(flat: dict[str, Any]) -> dict[str, Any]:
    """A flat config whose paths are absolute, so that it says the same anywhere."""
    return {
        name: str(expanded(value).absolute()) if value and _is_path(name) else value
        for name, value in flat.items()
    }


def _is_path(name: str) -> bool:
    return name in FIELDS and FIELDS[name].rule is PATH


def _same(name: str, theirs: Any, ours: Any) -> bool:
    """Whether two values of a field mean the same.

    The same relative path does, on another machine or from another folder too.
    """
    if not (_is_path(name) and theirs and ours):
        return theirs == ours
    theirs, ours = expanded(theirs), expanded(ours)
    if theirs.absolute() == ours.absolute():
        return True
    return not ours.is_absolute() and theirs.parts[-len(ours.parts) :] == ours.parts
