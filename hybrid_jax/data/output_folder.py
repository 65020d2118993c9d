"""Where nothing may be written: among the images, where it would become a class."""

from pathlib import Path

from hybrid_jax.data.sources.class_folders import SPLITS
from hybrid_jax.errors import UserError
from hybrid_jax.paths import expanded


def check_outside(flag: str, folder: Path, path: str) -> None:
    """Refuses a folder for output that a later start would take for a class.

    Args:
      flag: that names it, such as `--workdir`.
      folder: for output; it need not exist.
      path: `config.data.path`. A table lists its images, so all else is harmless there.

    Raises:
      UserError: names both.
    """
    place = expanded(path).resolve()
    inside = folder.resolve()
    if not place.is_dir() or not inside.is_relative_to(place):
        return
    parts = inside.relative_to(place).parts
    if any(part.startswith(".") for part in parts):
        return  # which is hidden
    folders = {entry.name.casefold() for entry in place.iterdir() if entry.is_dir()}
    roles = {role for role, names in SPLITS.items() if folders & {*names}}
    known = {name for names in SPLITS.values() for name in names}
    if "train" in roles and len(roles) > 1 and {*parts[:1]} - known:
        return  # beside the splits, where no classes are looked for
    raise UserError(
        f"{flag}={folder} lies among the images of config.data.path={path}, where it "
        "would become a class: give a folder elsewhere"
    )
