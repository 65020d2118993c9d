"""Predict the classes of images with a trained run.

  hybrid-jax predict --workdir=runs/cells new/*.png
  hybrid-jax predict --workdir=runs/cells new_cells --output=predictions.csv

Images are files, folders, patterns in quotes, or - to read a list from standard
input. Writes a row for each: its path, the likeliest class, its probability and
those of all classes, or why it cannot be read. Needs no training images.

  --workdir=DIR          folder of the run
  --output=FILE          .csv or .jsonl file to write [CSV on standard output]
  --resume               continue the file of a call that was stopped
  --top=N                write the N likeliest classes [all, in their order]
  --calibrated           apply the temperature that validation chose
  --coverage=SHARE       write sets of classes that hold the true class this
                         often, over all images like those of validation
  --typicality           write a p-value; near 0, an image looks like no class
  --views                average over the run's own symmetry, such as flips
  --ensemble=DIR[,DIR]   average with other runs, by their tested weights
  --checkpoint=WHICH     best, last, a step; all or A,B takes the mean [tested]
  --batch-size=N         images at a time [256]
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 1 if an image cannot be read; 2 for an error that you can fix.
"""

import os
import sys

from hybrid_jax.cli.common import Call, Command, on_device
from hybrid_jax.cli.options import SWITCH, TEXT, Option, integer, number
from hybrid_jax.errors import UserError, escape
from hybrid_jax.paths import check_local

OPTIONS = (
    Option("workdir", TEXT, ""),
    Option("output", TEXT, ""),
    Option("resume", SWITCH, False),
    Option("top", integer(1), 0),
    Option("calibrated", SWITCH, False),
    Option("coverage", number(0, 1)),
    Option("typicality", SWITCH, False),
    Option("views", SWITCH, False),
    Option("ensemble", TEXT, ""),
    Option("checkpoint", TEXT, ""),
    Option("batch-size", integer(1), 256),
)


def run(call: Call) -> int:
    """Predict the classes of images; return 1 if an image cannot be read, else 0.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags, workdirs

    parsed = flags.parse(call.arguments, OPTIONS, most=sys.maxsize)
    values = parsed.values
    if not values["workdir"]:
        raise UserError("--workdir is missing: give the folder of the run")
    if not parsed.positional:
        raise UserError("images are missing: give files, folders or patterns")
    for name in ("workdir", "output"):
        check_local(f"--{name}", values[name])
    from hybrid_jax.data.sources.found_files import left_out_notes
    from hybrid_jax.prediction.predict import predict

    images = _read_list(parsed.positional)
    with on_device():
        unreadable = predict(
            workdir=values["workdir"],
            images=images,
            output=values["output"],
            resume=values["resume"],
            top=values["top"],
            calibrated=values["calibrated"],
            coverage=values["coverage"],
            typicality=values["typicality"],
            checkpoint=values["checkpoint"],
            views=values["views"],
            ensemble=workdirs.split_workdirs("ensemble", values["ensemble"]),
            batch_size=values["batch-size"],
        )
    for note in left_out_notes(images, written=values["output"]):
        print(note, file=sys.stderr)
    return int(unreadable > 0)


def _read_list(images: list[str]) -> list[str]:
    """Return the images, with `-` replaced by the names in standard input.

    One name stands on each line, or ends with a zero byte as `find -print0` writes it.

    Raises:
      UserError: standard input has no names, or the only name is that of a table.
    """
    if len(images) == 1 and images[0].lower().endswith((".csv", ".tsv")):
        raise UserError(
            f"{escape(images[0])} is a table, and no image: give -, and write its "
            "paths to standard input, one on each line"
        )
    if "-" not in images:
        return images
    text = os.fsdecode(sys.stdin.buffer.read())  # file names need not be UTF-8
    # Names may hold other characters that `str.splitlines` splits at.
    lines = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if "\0" in text:
        lines = [name for name in text.split("\0") if name]
    if not lines:
        raise UserError("standard input names no image: give one on each line")
    return [name for image in images for name in (lines if image == "-" else [image])]


COMMAND = Command(__doc__.strip(), run, "the rows so far are kept", computes=True)
