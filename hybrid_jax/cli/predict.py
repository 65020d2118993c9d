"""Predict the classes of images with a trained run.

  hybrid-jax predict --workdir=runs/cells new/*.png
  hybrid-jax predict --workdir=runs/cells new_cells --output=predictions.csv

Images are files, folders with all that they hold, or patterns in quotes. Writes
a line for each: its path, the likeliest class, the probability of that and of
every class. An image that cannot be read has its error there instead, and the
others go on. The run's folder is all that is needed.

  --workdir=DIR          folder of the run
  --output=FILE          table (.csv) to write [standard output]
  --checkpoint=WHICH     best on validation, last, or a step [the one tested]
  --batch-size=N         images at a time [256]
  --flagfile=FILE        reads more flags from a file, one on each line

Exit code: 0, or 1 if an image cannot be read; 2 for a wrong command.
"""

import sys
import typing

from hybrid_jax.cli.common import Call, Command, memory_told
from hybrid_jax.cli.options import TEXT, Option, whole
from hybrid_jax.errors import UserError
from hybrid_jax.paths import check_local

OPTIONS = (
    Option("workdir", TEXT, ""),
    Option("output", TEXT, ""),
    Option("checkpoint", TEXT, ""),
    Option("batch-size", whole(1), 256),
)


def run(call: Call) -> int:
    """Predicts what a command line asks for; returns the exit code.

    Raises:
      UserError: something that the user can mend.
    """
    arguments = parse(call.arguments)
    from hybrid_jax.engine.predict import predict

    with memory_told():
        return int(predict(**arguments) > 0)


def parse(arguments: list[str]) -> dict[str, typing.Any]:
    """Parses a command line; returns the arguments of `engine.predict.predict`.

    Raises:
      UserError: a flag or a value that is not right, or no images.
    """
    from hybrid_jax.cli.flags import parse_plain

    parsed = parse_plain(arguments, OPTIONS, sys.maxsize)
    values = parsed.values
    if not values["workdir"]:
        raise UserError("--workdir is missing: give the folder of the run")
    if not parsed.others:
        raise UserError("images are missing: give files, folders or patterns")
    for name in ("workdir", "output"):
        check_local(f"--{name}", values[name])
    return {
        "workdir": values["workdir"],
        "images": parsed.others,
        "output": values["output"],
        "checkpoint": values["checkpoint"],
        "batch_size": values["batch-size"],
    }


COMMAND = Command(__doc__.strip(), run, "what was written stays", huge_pages=True)
