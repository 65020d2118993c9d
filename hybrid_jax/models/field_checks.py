"""Checks of the fields that `create_model` is given, each by itself."""

import numbers
import operator
import typing
from collections.abc import Mapping, Set

from hybrid_jax.models.registry import PerStage, parse_stack

WIDEST, DEEPEST = 2**15, 1000  # beyond any network, so that none builds for hours
# Fields that are one whole number, with the least and the most that each may be.
WHOLE = {
    "head_hidden": (0, WIDEST),
    "patch_size": (0, WIDEST),
    "width": (1, WIDEST),
    "depth": (1, DEEPEST),
    "num_classes": (1, 2**24),
}
# Fields that are a whole number from 1 for each stage, or for each part of a stage,
# with the most that each may be.
STAGES = {"widths": WIDEST, "depths": DEEPEST, "strides": WIDEST, "stem_widths": WIDEST}
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
    for name in filter(fields.__contains__, WHOLE):
        found[name] = _whole(name, fields[name], *WHOLE[name])
    for name in filter(fields.__contains__, STAGES):
        found[name] = _per_stage(name, fields[name], STAGES[name])
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


def _whole(name: str, value: typing.Any, least: int, most: int) -> int:
    is_whole = isinstance(value, typing.SupportsIndex) and not isinstance(value, bool)
    if not is_whole or not least <= operator.index(value) <= most:
        raise ValueError(
            f"{name}={value!r}: give a whole number from {least} to {most:,}"
        )
    return operator.index(value)


def _per_stage(name: str, values: typing.Any, most: int) -> PerStage:
    """Return whole numbers from 1 as a tuple, with a tuple for a stage of parts."""
    try:
        return tuple(
            _whole(name, value, 1, most)
            if isinstance(value, typing.SupportsIndex)
            else tuple(_whole(name, part, 1, most) for part in _sequence(value))
            for value in _sequence(values)
        )
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}={values!r}: give a whole number from 1 to {most:,} for each "
            "stage, such as (1, 2, 2)"
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
