"""Choose the folder of a run, and suggest commands if it holds another run."""

import os
import re

from hybrid_jax.cli.common import Call, quoted
from hybrid_jax.config.files import find
from hybrid_jax.errors import ConfigMismatch, UserError
from hybrid_jax.paths import check_folder, check_local, expand_user

RUNS = "runs"  # in the current folder


def resolve_workdir(workdir: str | None, config: str | None) -> str:
    """Return the folder of a run.

    Args:
      workdir: value of `--workdir`, or None.
      config: value of `--config`, or None.

    Returns:
      The workdir, `runs/<config>` or `runs/<config>-<model>`.

    Raises:
      UserError: neither is given, or the workdir is empty or not a local path.
    """
    if workdir is not None:
        check_folder("--workdir", workdir)
        return workdir
    if config is None:
        raise UserError("--workdir is missing: give the folder of the run")
    return default_workdir(config)


def default_workdir(config: str) -> str:
    """Return the default folder for the run of a config.

    The folder is relative to the current one, so all hosts of a run use the same.

    Args:
      config: the path of an experiment's file, or `path:model`.
    """
    path, models = find(config)
    safe = [re.sub(r"[^\w.,=+]+", "-", model) for model in models]
    return os.path.join(RUNS, "-".join([path.stem, *safe]))


def next_free_workdir(workdir: str) -> str:
    """Return `workdir-2`, or the first higher number that is free."""
    base, number = workdir, 2
    match = re.fullmatch(r"(.+)-(\d+)", workdir)
    if match and expand_user(match[1]).is_dir():
        base, number = match[1], int(match[2]) + 1
    while os.path.lexists(expand_user(f"{base}-{number}")):
        number += 1
    return f"{base}-{number}"


def with_commands(
    error: ConfigMismatch, call: Call, workdir: str, hosts: list[str]
) -> UserError:
    """Return an error that also names the commands that a user may have meant.

    Args:
      error: what is wrong with the workdir.
      call: the user's command.
      workdir: the folder, as the user writes it.
      hosts: the flags by which the processes of the run find each other.
    """
    name = workdir.rstrip(os.sep) or workdir
    resume = call.line("train", f"--workdir={name}", *hosts)
    new = call.line(
        call.name,
        *_without_workdir(call.arguments),
        f"--workdir={next_free_workdir(name)}",
    )
    message = (
        f"{error.what}. Resume that run with `{resume}`, or start a new one with "
        f"`{new}`"
    )
    if error.epochs_differ:
        flag = quoted(f"--config.init_from={name}")
        message += f". To train its weights for more epochs, add `{flag}` to the latter"
    return UserError(message)


def _without_workdir(arguments: list[str]) -> list[str]:
    """Return the arguments without `--workdir=W` and `--workdir W`."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [
        word
        for before, word in pairs
        if not re.match("--?workdir(=|$)", word)
        and not re.fullmatch("--?workdir", before)
    ]


def check_run(
    workdir: str, name: str = "", way_out: str = "train one there first"
) -> None:
    """Refuse a folder that holds no run.

    Args:
      workdir: the folder.
      name: the folder in words; empty for `--workdir=DIR`.
      way_out: what the message advises.

    Raises:
      UserError: the folder holds no run.
    """
    path = expand_user(workdir)
    name = name or f"--workdir={path}"
    if path.exists() and not path.is_dir():
        raise UserError(f"{name} is a file; give the folder of a run")
    if not (path / "config.json").exists():
        raise UserError(f"{name} holds no run: {way_out}")


def split_workdirs(flag: str, text: str) -> list[str]:
    """Return the folders that a flag names, separated by commas.

    Raises:
      UserError: a folder has no name, or is remote.
    """
    folders = text.split(",") if text else []
    for folder in folders:
        if not folder:
            raise UserError(f"--{flag}={text} has an empty name: leave it out")
        check_local(f"--{flag}", folder)
    return folders
