"""Measure how much a network's outputs change when images are shifted.

  hybrid-jax equivariance --model=astroformer_pico
  hybrid-jax equivariance --workdir=runs/plain,runs/aps --precision=float64

Compares a model with variants of itself: circular padding with a relative bias
on the torus, and low-pass or adaptive strides. Runs that differ only in their
seed form one row, with 95 % intervals. Prints errors under cyclic shifts, the
share of unchanged predictions, the Lie derivative, accuracy and cost.

  --model=NAME           with random weights, on noise of 32 px
  --workdir=DIR[,DIR]    folders of runs, measured on their test split
  --checkpoint=WHICH     of runs: best, last, a step, all, or A,B [tested]
  --weights=KIND         of runs: trained, random, or both [both]
  --images=N             images for errors and derivatives [32]
  --every-shift=N        images to measure every shift of [4096 shifts in all]
  --precision=TYPE       float32 or float64 [float32]
  --seed=N               of shifts, noise, random weights of --model [0]
  --output=DIR           folder for results, also by stage [equivariance/NAME]
  --config.FIELD=VALUE   with --model: change config.model or data.image_size;
                         with --workdir: fields that change no result
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

import os
import typing
from pathlib import Path

from hybrid_jax.cli.common import Call, Command, on_device
from hybrid_jax.cli.options import TEXT, Option, integer, one_of
from hybrid_jax.errors import UserError
from hybrid_jax.paths import check_given_once, expand_user

FOLDER = "equivariance"
BOTH = ("trained", "random")
OPTIONS = (
    Option("model", TEXT, ""),
    Option("workdir", TEXT, ""),
    Option("checkpoint", TEXT, ""),
    Option("weights", one_of("trained", "random", "both"), "both"),
    Option("images", integer(1), 32),
    Option("every-shift", integer(0)),
    Option("precision", one_of("float32", "float64"), "float32"),
    Option("seed", integer(0), 0),
    Option("output", TEXT, ""),
)


def run(call: Call) -> None:
    """Measure the networks that a command line asks for.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags

    parsed = flags.parse(call.arguments, OPTIONS, takes_config=True)
    if parsed.config is not None:
        raise UserError("--config is of no use here: give --model, or --workdir")
    values = parsed.values
    workdirs = _check_networks(values)
    from hybrid_jax.equivariance.command import check_fields, compare
    from hybrid_jax.equivariance.measure import Settings

    fields = check_fields(parsed.changed) if values["model"] else parsed.changed
    settings = Settings(
        images=values["images"],
        every_shift=values["every-shift"],
        seed=values["seed"],
        precision=values["precision"],
    )
    with on_device():
        compare(
            settings,
            _output(values, workdirs),
            model=values["model"],
            workdirs=workdirs,
            fields=fields,
            checkpoint=values["checkpoint"],
            weights=BOTH if values["weights"] == "both" else (values["weights"],),
        )


def _check_networks(values: dict[str, typing.Any]) -> list[str]:
    """Return the folders of the runs; an empty list for `--model`.

    Raises:
      UserError: the command names no model or run, or both, or one that does not exist.
    """
    from hybrid_jax.cli import workdirs
    from hybrid_jax.models.registry import MODELS, unknown_model

    model, folders = values["model"], values["workdir"]
    if bool(model) == bool(folders):
        raise UserError("give --model=NAME or --workdir=DIR, one of them")
    if model:
        if model not in MODELS:
            raise UserError(unknown_model(model))
        for name, rest in (("checkpoint", ""), ("weights", "both")):
            if values[name] != rest:
                raise UserError(f"--{name} is for runs: leave it out with --model")
        return []
    found: list[str] = folders.split(",")
    for folder in found:
        workdirs.check_run(workdirs.resolve_workdir(folder, None))
    check_given_once(found)
    return found


def _output(values: dict[str, typing.Any], workdirs: list[str]) -> Path:
    """Return the folder for the results: the one of `--output`, or a new one.

    Raises:
      UserError: the folder cannot be written, or is not empty.
    """
    from hybrid_jax.cli.workdirs import next_free_workdir
    from hybrid_jax.evaluation.report import check_empty_folder

    if values["output"]:
        check_empty_folder(values["output"])
        return expand_user(values["output"])
    name = values["model"] or os.path.basename(
        os.path.abspath(expand_user(workdirs[0]))
    )
    default = os.path.join(FOLDER, name)
    if os.path.lexists(default):
        default = next_free_workdir(default)
    return Path(default)


COMMAND = Command(__doc__.strip(), run, "nothing was written", computes=True)
