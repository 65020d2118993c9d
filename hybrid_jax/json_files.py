"""Read and write JSON files; a reader never sees a half-written one."""

import contextlib
import json
import math
import os
import re
import typing
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hybrid_jax.errors import UserError
from hybrid_jax.paths import replacing

RESTORE = "restore it, or give another workdir"


class MissingEntry(UserError, KeyError):
    """A JSON file lacks an entry that is asked for."""

    __str__ = Exception.__str__  # that of KeyError adds quotes


class _Entries(dict):
    """Entries of an object in a JSON file; a missing one is the user's error."""

    def __init__(self, path: Path, way_out: str, entries: dict) -> None:
        super().__init__(entries)
        self._path, self._way_out = path, way_out

    def __missing__(self, name: str) -> typing.NoReturn:
        raise MissingEntry(f"{self._path} has no entry {name!r}: {self._way_out}")


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file at once, see `replacing`.

    The file that a link leads to is replaced. A device or a pipe is written to.
    """
    data = content.encode() if isinstance(content, str) else content
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    with replacing(path) as scratch:
        scratch.write_bytes(data)


def write_json(path: Path, content: dict) -> None:
    """Write an object as JSON, completely or not at all.

    Raises:
      UserError: a number is not finite, which JSON lacks; see `finite_or_none`.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise UserError(f"{path} cannot hold a number that is not finite") from error
    # Bytes of file names that are not UTF-8 are escaped in a form that JSON can read.
    text = re.sub("[\ud800-\udfff]", lambda byte: f"\\u{ord(byte[0]):x}", text)
    write_whole(path, text + "\n")


def finite_or_none(value: Any) -> Any:
    """Replace numbers that are not finite, at any depth, with None; tuples get lists.

    Use it where a measure may be undefined.
    """
    if isinstance(value, dict):
        return {name: finite_or_none(inside) for name, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_none(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path, way_out: str = RESTORE) -> dict:
    """Read a JSON object, whose missing entries are errors that name the file.

    Args:
      path: of the file.
      way_out: what a user may do if it is damaged.

    Raises:
      UserError: the file is missing or damaged.
      MissingEntry: later, an entry that is asked for is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, object_hook=partial(_Entries, path, way_out))
        if not isinstance(content, dict):
            raise ValueError("it holds no fields")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): {way_out}") from None
    return content


def check_entries(
    path: Path,
    content: dict,
    kinds: Mapping[str, type | tuple[type, ...]],
    way_out: str = RESTORE,
) -> None:
    """Refuse entries of wrong types.

    Args:
      path: of the file.
      content: what was read from it.
      kinds: the allowed types of entries, by name; who asks for a missing one is told.
      way_out: what a user may do about it.

    Raises:
      UserError: names the file and the first wrong entry.
    """
    for name, kind in kinds.items():
        if name in content and not isinstance(content[name], kind):
            raise UserError(f"{path} has an unreadable entry {name!r}: {way_out}")


def read_lines(path: Path) -> list[dict]:
    """Read JSON objects, one per line; skip lines that a crash has damaged.

    If the file does not exist, return an empty list.
    """
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
