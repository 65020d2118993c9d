"""Refuse a folder of many runs that already holds work of another kind."""

from pathlib import Path

from hybrid_jax.errors import UserError

# The file that marks what a folder holds.
FILES = {"run": "config.json", "sweep": "sweep.json", "study": "study.json"}


def check_folder(folder: Path, purpose: str) -> None:
    """Refuse a folder that holds something else, or a file in its place.

    Args:
      folder: the folder, which need not exist.
      purpose: what the folder is for, a key of `FILES`.

    Raises:
      UserError: names what is there.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        within = "" if there == folder else f": {there}"
        raise UserError(f"--workdir={folder}{within} is a file; give a folder")
    for what, name in FILES.items():
        if what != purpose and (folder / name).exists():
            raise UserError(
                f"--workdir={folder} holds a {what}: give another folder for the "
                f"{purpose}"
            )
