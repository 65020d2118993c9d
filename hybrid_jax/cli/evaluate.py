"""Evaluate a run, on its own test split or on other images.

  hybrid-jax evaluate --workdir=runs/digits
  hybrid-jax evaluate --workdir=runs/cells --data=new_cells
  hybrid-jax evaluate --workdir=runs/cells --config.data.path=/elsewhere/cells

Prints metrics with 95 % intervals, and writes nothing to the run's folder.
Other images are in one folder per class, or listed in a table.

  --workdir=DIR          folder of the run [runs/FILE or runs/FILE-MODEL]
  --checkpoint=WHICH     best, last, a step; all or A,B takes the mean [tested]
  --split=NAME           train, validation or test [test, else validation]
  --data=PATH            folder or table (.csv) of other images
  --on-error=skip        leave out and count images that cannot be read [stop]
  --views                average over the run's own symmetry, such as flips
  --ensemble=DIR[,DIR]   average with other runs, by their tested weights
  --versus=DIR[,DIR]     compare with other runs on the same images
  --coverage=SHARE       evaluate prediction sets of this coverage, such as 0.9
  --output=DIR           folder for tables, figures and a row for each image
  --config.FIELD=VALUE   change a field; `hybrid-jax fields` lists them
  --config=FILE[:MODEL]  refuse a run of another experiment
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

import typing

from hybrid_jax.cli.common import Call, Command, on_device
from hybrid_jax.cli.options import SWITCH, TEXT, Option, number, one_of
from hybrid_jax.errors import ConfigMismatch, UserError
from hybrid_jax.paths import check_local

OPTIONS = (
    Option("workdir", TEXT),
    Option("checkpoint", TEXT, ""),
    Option("split", one_of("train", "validation", "test"), ""),
    Option("data", TEXT, ""),
    Option("on-error", one_of("stop", "skip"), "stop"),
    Option("views", SWITCH, False),
    Option("ensemble", TEXT, ""),
    Option("versus", TEXT, ""),
    Option("coverage", number(0, 1)),
    Option("output", TEXT, ""),
)


def run(call: Call) -> None:
    """Evaluate the run that a command line names.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    arguments, is_default_workdir = parse(call.arguments)
    from hybrid_jax.evaluation.evaluate import Images, evaluate

    arguments["images"] = Images(**arguments["images"])
    workdir = arguments["workdir"]
    if is_default_workdir:
        print(f"No --workdir given: using {workdir}", flush=True)
    with on_device():
        try:
            evaluate(**arguments)
        except ConfigMismatch as error:
            line = call.line("evaluate", f"--workdir={workdir}")
            raise UserError(f"{error.what}. Evaluate that run with `{line}`") from None


def parse(arguments: list[str]) -> tuple[dict[str, typing.Any], bool]:
    """Parse a command line.

    Returns:
      The arguments of `evaluate`, and whether the user gave no workdir.

    Raises:
      UserError: a flag, a value or a config file is wrong.
    """
    from hybrid_jax.cli import flags, workdirs

    parsed = flags.parse(arguments, OPTIONS, takes_config=True)
    values, has_config = parsed.values, parsed.config is not None
    workdir = workdirs.resolve_workdir(values["workdir"], values["config"])
    check_local("--data", values["data"])
    if values["on-error"] != "stop" and not values["data"]:
        raise UserError(
            f"--on-error={values['on-error']} is for the images of --data, since a "
            "run's own are judged all or not at all: give --data, or leave this out"
        )
    return {
        "workdir": workdir,
        "config": flags.required_config(parsed) if has_config else None,
        "changed": {} if has_config else parsed.changed,
        "checkpoint": values["checkpoint"],
        "images": {
            "split": values["split"],
            "path": values["data"],
            "on_error": values["on-error"],
        },
        "views": values["views"],
        "ensemble": workdirs.split_workdirs("ensemble", values["ensemble"]),
        "versus": workdirs.split_workdirs("versus", values["versus"]),
        "coverage": values["coverage"],
        "output": values["output"],
    }, values["workdir"] is None


COMMAND = Command(__doc__.strip(), run, "nothing was written", computes=True)
