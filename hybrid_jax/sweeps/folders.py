"""Refuse a folder of many runs that already holds other work."""

from pathlib import Path
from typing import Any

from hybrid_jax.config.schema import DataConfig
from hybrid_jax.data.sources.class_folders import check_outside
from hybrid_jax.errors import UserError, elide
from hybrid_jax.runs.folder_kinds import check_free


def check_workdir(folder: Path, purpose: str, config: DataConfig) -> None:
    """Refuse a folder that holds something else, a file, or a folder among the images.

    Args:
      folder: the folder, which need not exist.
      purpose: what the folder is for, a key of `folder_kinds.MARKS`.
      config: the images that its runs are trained on.

    Raises:
      UserError: names what is there.
    """
    check_outside("--workdir", folder, config)
    check_free(folder, purpose)


def check_data(folder: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse to mix results of other images into those of a folder.

    Args:
      folder: the folder, as the user gave it.
      theirs: `Splits.identity` of the images that its runs were trained on.
      ours: that of the images that are there now.

    Raises:
      UserError: names what differs.
    """
    hashes = ("labels", "files")
    differing = [
        f"other {name}"
        if name in hashes
        else f"{name} were {elide(theirs.get(name))} and are {elide(value)} now"
        for name, value in ours.items()
        if theirs.get(name) != value
    ]
    if differing:
        raise UserError(
            f"--workdir={folder} has results of other images: {'; '.join(differing)}. "
            "Give another workdir, or the images as they were"
        )
