"""Which folder a run lies in, and what to do where another run lies there."""

import os
import re
from pathlib import Path

from hybrid_jax.cli.common import Call, quoted
from hybrid_jax.config.files import find
from hybrid_jax.errors import OtherRun, UserError
from hybrid_jax.paths import check_local, expanded

RUNS = "runs"  # in the current folder


def choose(workdir: str | None, config: str | None) -> str:
    """Returns the folder of a run.

    Args:
      workdir: as given with `--workdir`; None if it was left out.
      config: as given with `--config`; None if it was left out.

    Returns:
      The workdir, `runs/<config>` or `runs/<config>-<model>`.

    Raises:
      UserError: neither was given, or a folder that cannot be one.
    """
    if workdir == "":
        raise UserError("--workdir is empty: give the folder of the run")
    if workdir is None and config is None:
        raise UserError("--workdir is missing: give the folder of the run")
    check_local("--workdir", workdir or "")
    return workdir or default(config)


def default(config: str) -> str:
    """Returns the folder for the run of a config if the user names none.

    It is relative to the current folder, so it is the same on all hosts of a run that
    are started alike.

    Args:
      config: the path of an experiment's file, or `path:model`.
    """
    path, models = find(config)
    safe = [re.sub(r"[^\w.,=+]+", "-", model) for model in models]
    return os.path.join(RUNS, "-".join([path.stem, *safe]))


def free(workdir: str) -> str:
    """Returns `workdir-2`, or the first higher number that is free."""
    base, number = workdir, 2
    match = re.fullmatch(r"(.+)-(\d+)", workdir)
    if match and expanded(match[1]).is_dir():
        base, number = match[1], int(match[2]) + 1
    while os.path.lexists(expanded(f"{base}-{number}")):
        number += 1
    return f"{base}-{number}"


def ways_out(error: OtherRun, call: Call, workdir: str, hosts: list[str]) -> UserError:
    """Adds to an error the commands that a user may have meant.

    Args:
      error: what is wrong with the workdir.
      call: the user's own command.
      workdir: the folder, as the user writes it.
      hosts: the flags that tell the processes of the run about each other.

    Returns:
      The error to raise instead.
    """
    name = workdir.rstrip(os.sep) or workdir
    resume = call.line("train", f"--workdir={name}", *hosts)
    anew = call.line(
        call.name, *_without_workdir(call.arguments), f"--workdir={free(name)}"
    )
    more = quoted(f"--config.init_from={name}")
    longer = f". To train its weights for more epochs, add `{more}` to the latter"
    return UserError(
        f"{error.what}. Resume that run with `{resume}`, or start a new one with "
        f"`{anew}`{longer if error.epochs_differ else ''}"
    )


def _without_workdir(arguments: list[str]) -> list[str]:
    """Leaves out `--workdir=W` and `--workdir W`."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif re.fullmatch("--?workdir", argument):
            skip = True
        elif not re.match("--?workdir=", argument):
            kept.append(argument)
    return kept


def check_run(workdir: str) -> Path:
    """Returns the path of a folder that holds a run.

    Raises:
      UserError: it holds none.
    """
    path = expanded(workdir)
    if path.exists() and not path.is_dir():
        raise UserError(f"--workdir={path} is a file; give a folder")
    if not (path / "config.json").exists():
        raise UserError(
            f"--workdir={path} holds no run: give --config too, such as "
            "--config=configs/digits.py, to start one there"
        )
    return path
