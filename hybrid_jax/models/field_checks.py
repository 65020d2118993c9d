"""Checks of the fields that `create_model` is given, each by itself."""

import numbers
import operator
import typing
from collections.abc import Mapping, Set

from hybrid_jax.models.registry import PerStage, parse_stack

# Fields that are one whole number, and the least that each may be.
LEAST = {"head_hidden": 0, "patch_size": 0, "width": 1, "depth": 1, "num_classes": 1}
# Fields that are a whole number for each stage, or for each part of a stage.
STAGES = ("widths", "depths", "strides", "stem_widths")
RATES = ("drop_path", "dropout")
ONE_OF = {
    "scan": ("auto", "on", "off"),
    "remat": ("none", "products", "full"),
    "kernels": ("xla", "pallas"),
}


def checked(fields: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """Return fields of a network, sequences as tuples of Python's own numbers.

    Raises:
      ValueError: names a field with an impossible value.
    """
    found = dict(fields)
    for name in filter(fields.__contains__, LEAST):
        found[name] = _whole(name, fields[name], LEAST[name])
    for name in filter(fields.__contains__, STAGES):
        found[name] = _per_stage(name, fields[name])
    for name in filter(fields.__contains__, RATES):
        _check_rate(name, fields[name])
    for name in filter(fields.__contains__, ONE_OF):
        if fields[name] not in ONE_OF[name]:
            raise ValueError(
                f"{name}={fields[name]!r} is not one of {', '.join(ONE_OF[name])}"
            )
    if "stack" in fields:
        found["stack"] = _as_stack(fields["stack"])
    if len(found.get("stem_widths", (1,))) not in (1, 2):
        raise ValueError(f"stem_widths={fields['stem_widths']!r}: give one or two")
    if "dtype" in fields:
        _check_dtype(fields["dtype"])
    return found


def _whole(name: str, value: typing.Any, least: int) -> int:
    is_whole = isinstance(value, typing.SupportsIndex) and not isinstance(value, bool)
    if not is_whole or operator.index(value) < least:
        raise ValueError(f"{name}={value!r}: give a whole number from {least}")
    return operator.index(value)


def _per_stage(name: str, values: typing.Any) -> PerStage:
    """Return whole numbers from 1 as a tuple, with a tuple for a stage of parts."""
    try:
        return tuple(
            _whole(name, value, 1)
            if isinstance(value, typing.SupportsIndex)
            else tuple(_whole(name, part, 1) for part in _sequence(value))
            for value in _sequence(values)
        )
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}={values!r}: give a whole number from 1 for each stage, such as "
            "(1, 2, 2)"
        ) from None


def _sequence(values: typing.Any) -> typing.Iterable[typing.Any]:
    if isinstance(values, (str, bytes, Mapping, Set)):
        raise TypeError("no sequence of numbers")
    return iter(values)


def _as_stack(stack: typing.Any) -> tuple[str, ...]:
    if isinstance(stack, str):
        return parse_stack(stack)
    if isinstance(stack, (list, tuple)) and all(isinstance(s, str) for s in stack):
        return tuple(stack)
    raise ValueError(f"stack={stack!r}: give letters, such as 'C-C-C-T'")


def _check_rate(name: str, rate: typing.Any) -> None:
    if not (isinstance(rate, numbers.Real) and 0 <= float(rate) < 1):
        raise ValueError(f"{name}={rate!r}: give a rate from 0 to below 1")


def _check_dtype(dtype: typing.Any) -> None:
    """Refuse a dtype in which no network computes."""
    import jax.numpy as jnp

    try:
        is_float = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        is_float = False
    if not is_float:
        raise ValueError(f"dtype={dtype!r}: give one of floats, such as bfloat16")
