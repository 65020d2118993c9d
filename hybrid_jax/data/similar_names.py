"""Names of classes and groups that may stand for the same thing."""

import re
from collections.abc import Iterable

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


def _plain(name: str) -> str:
    """Return what names have in common that may stand for the same thing."""
    plain = "".join(name.casefold().replace("_", " ").split())
    number = WHOLE_NUMBER.fullmatch(plain)
    return number[1] if number else plain
