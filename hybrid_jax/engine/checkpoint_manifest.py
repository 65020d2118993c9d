"""What a checkpoint's files were when they were written: their sizes and sha256 sums.

A disk that flips a bit, or loses the end of a file, is not noticed by what reads arrays
from it: numbers are restored that were never saved. So every checkpoint has a manifest,
written last, and nothing is read that differs from it.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from hybrid_jax.engine.json_files import write_whole

NAME = "manifest.json"
INCOMPLETE = "it is incomplete"
SMALL = 1 << 20  # bytes of a file that is read whatever is asked for


def seal(folder: Path) -> None:
    """Writes the manifest of a folder, of which nothing is written any more."""
    files = {
        str(path.relative_to(folder)): {"bytes": _size(path), "sha256": _sum(path)}
        for path in _files(folder)
    }
    write_whole(folder / NAME, json.dumps(files, indent=2) + "\n")


def flaw(folder: Path, thorough: bool = True) -> str:
    """What is wrong with a folder, in words; empty if nothing is.

    Args:
      folder: of a checkpoint.
      thorough: reads every file to its end; else the large ones have their size looked
        at alone.
    """
    try:
        listed = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if not listed:
            return f"{NAME} is empty"
        for name, expected in listed.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if _size(path) != expected["bytes"]:
                return f"{name} has {_size(path)} bytes of {expected['bytes']}"
            read = thorough or _size(path) <= SMALL
            if read and _sum(path) != expected["sha256"]:
                return f"{name} has other content than was written"
    except FileNotFoundError:
        return INCOMPLETE
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{NAME} cannot be read: {error}"
    return ""


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != NAME:
            yield path


def _size(path: Path) -> int:
    return path.stat().st_size


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
