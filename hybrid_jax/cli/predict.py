"""Predict the classes of images with a trained run.

  hybrid-jax predict --workdir=runs/cells new/*.png
  hybrid-jax predict --workdir=runs/cells new_cells --output=predictions.csv

Images are files, folders with all images in them, or patterns in quotes. Writes
one row per image: its path, the likeliest class, and the probabilities of that
class and of all classes. The row of an image that cannot be read has the error
instead. Only the run's folder is needed, not the images it was trained on.

  --workdir=DIR          folder of the run
  --output=FILE          table (.csv) to write [standard output]
  --checkpoint=WHICH     best on validation, last, or a step [the one tested]
  --batch-size=N         images at a time [256]
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 1 if an image cannot be read; 2 for an error that you can fix.
"""

import sys

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import TEXT, Option, integer
from hybrid_jax.errors import UserError, report_out_of_memory
from hybrid_jax.paths import check_local

OPTIONS = (
    Option("workdir", TEXT, ""),
    Option("output", TEXT, ""),
    Option("checkpoint", TEXT, ""),
    Option("batch-size", integer(1), 256),
)


def run(call: Call) -> int:
    """Predict the classes of images; return 1 if an image cannot be read, else 0.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags

    parsed = flags.parse(call.arguments, OPTIONS, most=sys.maxsize)
    values = parsed.values
    if not values["workdir"]:
        raise UserError("--workdir is missing: give the folder of the run")
    if not parsed.positional:
        raise UserError("images are missing: give files, folders or patterns")
    for name in ("workdir", "output"):
        check_local(f"--{name}", values[name])
    from hybrid_jax.engine.predict import predict

    with report_out_of_memory():
        unreadable = predict(
            workdir=values["workdir"],
            images=parsed.positional,
            output=values["output"],
            checkpoint=values["checkpoint"],
            batch_size=values["batch-size"],
        )
    return int(unreadable > 0)


COMMAND = Command(__doc__.strip(), run, "the rows so far are kept", huge_pages=True)
