"""Find a folder of weights on this machine, or download it from Hugging Face's hub."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hybrid_jax.errors import UserError, escape, first_line
from hybrid_jax.extras import import_extra
from hybrid_jax.paths import check_given, expand_user

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def find_pretrained(
    source: str | os.PathLike, revision: str | None, files: Sequence[str]
) -> Path:
    """Return a folder of this machine, or download a repository and return its folder.

    Args:
      source: path of a folder, or the name of a repository, such as `user/name`.
      revision: of the repository; None is its main branch.
      files: names of the files to download, all of one commit.

    Raises:
      UserError: `source` is no path, there is no such folder or repository, or the hub
        cannot be reached.
    """
    check_given("source", source, "give a folder, or a repository such as user/name")
    folder = expand_user(source)
    if folder.is_dir():
        if revision is not None:
            raise UserError(
                f"{escape(folder)} is a folder, which has no revisions: leave out "
                f"revision={revision!r}"
            )
        return folder
    name = os.fspath(source)
    if not isinstance(name, str) or not REPOSITORY.fullmatch(name):
        raise UserError(
            f"{escape(folder)} is neither a folder nor a repository such as user/name: "
            "give one of them"
        )
    hub = import_extra(
        "huggingface_hub",
        extra="hub",
        purpose=f"{name}, which is not a folder here,",
        alternative="give a folder",
    )
    try:
        path = hub.snapshot_download(name, revision=revision, allow_patterns=[*files])
    except (OSError, ValueError, hub.errors.RevisionResolutionError) as error:
        where = f"{name}, revision {revision}," if revision else name
        raise UserError(
            f"{where} is not a folder here, and cannot be downloaded from Hugging "
            "Face's hub: "
            f"{first_line(error)}"
        ) from None
    return Path(path)
