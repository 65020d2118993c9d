"""Facts of images that were looked through, kept so that a later start need not."""

import contextlib
import json
import os
from pathlib import Path

import PIL

from hybrid_jax.data.image_io import READER

# What tells pixels, and so facts, from those of another reader.
READ_BY = f"{PIL.__version__} {READER}"


def remembered(memory: Path, length: int) -> dict[str, list]:
    """Returns the rows of a file by name.

    Args:
      memory: the file; one that is damaged or not there has no rows.
      length: of a row; those that another version wrote are left out.
    """
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
        return {name: row for name, row in content.items() if len(row) == length}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def remember(memory: Path, rows: dict[str, list]) -> None:
    """Writes rows, whole or not at all; a disk that takes none costs another look."""
    scratch = memory.with_name(f".{memory.name}.{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(rows), encoding="utf-8")
        os.replace(scratch, memory)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()
