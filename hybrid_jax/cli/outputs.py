"""Write the files that flags such as `--json` name; `-` is standard output."""

import os

from hybrid_jax.errors import UserError, escape
from hybrid_jax.paths import check_local, check_parent, expand_user, nearest_existing


def check_output(flag: str, target: str, way_out: str = "or remove it") -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Args:
      flag: such as `--json`.
      target: value of the flag; empty writes nothing.
      way_out: what else than another name lets the command write where a file is;
        empty if it may be replaced.

    Raises:
      UserError: the target is remote or a folder or exists, or its folder is missing
        or read-only.
    """
    check_local(flag, target)
    path, shown = expand_user(target), f"{flag}={escape(target)}"
    if target in ("", "-") or (path.exists() and not (path.is_file() or path.is_dir())):
        return  # a device or a pipe needs no folder
    if path.is_dir():
        raise UserError(f"{shown} is a folder: give a file in it")
    if path.exists() and way_out:
        raise UserError(f"{shown} exists: give another name, {way_out}")
    check_parent(path, f"{flag}=")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(
            f"{shown} lies in a folder that you may not write to: give another"
        )


def check_output_folder(flag: str, target: str) -> None:
    """Refuse a folder that cannot be written, before anything is computed.

    Args:
      flag: such as `--profile`.
      target: value of the flag, a folder that may not exist yet; empty writes nothing.

    Raises:
      UserError: the target is remote or a file, or it would be made in a folder that is
        read-only.
    """
    check_local(flag, target)
    if not target:
        return
    path, shown = expand_user(target).absolute(), f"{flag}={escape(target)}"
    there = nearest_existing(path)
    if not there.is_dir():
        raise UserError(f"{shown}: {escape(there)} is a file: give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(
            f"{shown} lies in a folder that you may not write to: give another"
        )


def write_output(target: str, text: str) -> None:
    """Write a text that ends with a newline to a target; see `check_output`."""
    from hybrid_jax.json_files import write_whole

    if target == "-":
        print(text, end="", flush=True)
    elif target:
        write_whole(expand_user(target), text)
