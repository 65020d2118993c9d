"""Files of JSON and text that are never met half-written."""

import json
import os
import re
from pathlib import Path

from hybrid_jax.errors import UserError


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a reader, or a crash, never meets half of it."""
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def write_json(path: Path, content: dict) -> None:
    """Writes an object as JSON, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # Bytes of a file's name that are not UTF-8, as JSON writes them and reads them.
    text = re.sub("[\ud800-\udfff]", lambda byte: f"\\u{ord(byte[0]):x}", text)
    write_whole(path, text + "\n")


def read_json(path: Path) -> dict:
    """Reads an object of JSON.

    Raises:
      UserError: there is none, or it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no fields")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): restore it, or give another workdir"
        ) from None
    return content


def read_lines(path: Path) -> list[dict]:
    """Reads objects of JSON, one a line; none of a file that is not there.

    A line that a crash has torn is left out.
    """
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict)]
