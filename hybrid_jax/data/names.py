"""Names of classes and groups: their form, their order, and likely mistakes."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hybrid_jax.errors import closest, escape

WHOLE_NUMBER = re.compile(r"0*([0-9]+?)(\.0*)?")


def similar_names(names: Iterable[str]) -> list[str]:
    """Find names that differ only in case, spaces, underscores or the form of a number.

    Names of one letter are ignored: alphabets have both cases.

    Returns:
      Pairs of them, such as `"'Cat' and 'cat'"` or `"'1' and '1.0'"`.
    """
    first: dict[str, str] = {}
    found = []
    for name in names:
        plain = _plain(name)
        other = first.setdefault(plain, name)
        if other != name and (len(plain) > 1 or plain.isdecimal()):
            found.append(f"{other!r} and {name!r}")
    return found


def suggestion(name: str, classes: Sequence[str]) -> str:
    """Return `", did you mean 'Cats'?"` for a misspelled class, or nothing.

    Args:
      name: a class found in one split only.
      classes: classes found in the other split only, where the right name would be.
    """
    others = [str(c) for c in classes if c != name]
    same = next((c for c in others if c.lower() == name.lower()), None)
    return f", did you mean {same!r}?" if same else closest(name, others)


def class_name(name: str) -> str:
    """Return a class name for display, normalized to one Unicode form.

    Bytes that are not UTF-8 are escaped.
    """
    return escape(unicodedata.normalize("NFC", name))


def sort_key(names: Iterable[str]) -> Callable[[str], Any]:
    """Return a sort key: by number where all names are numbers, else by text."""
    if all(name.isdecimal() for name in names):
        return lambda name: (int(name), name)
    return str


def _plain(name: str) -> str:
    """Return what names have in common that may stand for the same thing."""
    plain = "".join(name.casefold().replace("_", " ").split())
    number = WHOLE_NUMBER.fullmatch(plain)
    return number[1] if number else plain
