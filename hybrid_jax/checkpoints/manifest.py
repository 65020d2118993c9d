"""The manifest of a checkpoint: sizes and SHA-256 sums of its files.

Reading arrays does not detect a flipped bit or a truncated file: it would restore
numbers that were never saved. So the manifest is written last, and a checkpoint
that differs from its manifest is not used.
"""

import hashlib
import json
from pathlib import Path

from hybrid_jax.errors import UserError
from hybrid_jax.json_files import write_whole

NAME = "manifest.json"
INCOMPLETE = "it is incomplete"
SMALL_FILE_BYTES = 1 << 20  # files up to this size are always read


def write(folder: Path) -> None:
    """Write the manifest of a checkpoint, whose other files are complete."""
    files = {
        str(path.relative_to(folder)): {"bytes": _size(path), "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }
    write_whole(folder / NAME, json.dumps(files, indent=2) + "\n")


def checksum(folder: Path) -> str:
    """Return the SHA-256 sum of a checkpoint's manifest; empty if it cannot be read."""
    try:
        return _sha256(folder / NAME)
    except OSError:
        return ""


def check_same(folder: Path, known: str) -> None:
    """Refuse a checkpoint that is not the one that was there before.

    Args:
      folder: folder of the checkpoint.
      known: what `checksum` returned before.

    Raises:
      UserError: it can no longer be read, or another one has taken its place.
    """
    if (found := checksum(folder)) != known:
        what = "was replaced" if found else "was deleted or damaged"
        raise UserError(
            f"checkpoint {folder} {what} since its run was loaded: load the run again"
        )


def any_saved(folder: Path) -> bool:
    """Return whether a folder of checkpoints holds more than a killed first save."""
    steps = [path for path in folder.glob("*") if path.name.isdigit()]
    return len(steps) > 1 or any((path / NAME).exists() for path in steps)


def find_damage(folder: Path, thorough: bool = True) -> str:
    """Return what is wrong with a checkpoint, or an empty string.

    Args:
      folder: folder of the checkpoint.
      thorough: read all files; otherwise only the sizes of large files are compared.

    Raises:
      UserError: the disk or the rights of its files keep it from being read, so that
        nobody knows whether it is damaged.
    """
    try:
        listed = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if not listed:
            return f"{NAME} is empty"
        for name, expected in listed.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            size = _size(path)
            if size != expected["bytes"]:
                return f"{name} has {size} of {expected['bytes']} bytes"
            is_read = thorough or size <= SMALL_FILE_BYTES
            if is_read and _sha256(path) != expected["sha256"]:
                return f"{name} differs from what was written"
    except FileNotFoundError:
        return INCOMPLETE
    except (IsADirectoryError, NotADirectoryError) as error:
        return f"{error.strerror}: {error.filename}"
    except OSError as error:
        raise UserError(
            f"checkpoint {folder} cannot be read ({error.strerror}): make it readable, "
            "or move it out of its folder"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{NAME} cannot be read: {error}"
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
