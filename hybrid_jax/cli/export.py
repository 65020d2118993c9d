"""Export a trained run to files that run elsewhere, without this package.

  hybrid-jax export --workdir=runs/cells --format=onnx --output=cells.onnx
  hybrid-jax export --workdir=runs/cells --format=hub --output=cells_timm

stablehlo and onnx are programs from uint8 images [N, height, width, channels]
to probabilities [N, classes], N from 1. They include the normalization. hub is
a model for timm, if timm has that model. The result is read back and compared
with the run, on images of its data or random ones. It is deleted if it differs
by more than 1e-5.

  --workdir=DIR       folder of the run
  --format=NAME       stablehlo: a folder that jax runs on CPU, GPU and TPU
                      onnx: a file for onnxruntime and other programs
                      hub: a folder in timm's format, with a model card
  --output=PATH       file or folder to write, which must not exist
  --calibrated        include the temperature that validation chose
  --views             average over the run's own symmetry, such as flips
  --checkpoint=WHICH  best, last, a step; all or A,B takes the mean [tested]
  --flagfile=FILE     read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

from hybrid_jax.cli.common import Call, Command, on_device
from hybrid_jax.cli.options import SWITCH, TEXT, Option
from hybrid_jax.errors import UserError, escape
from hybrid_jax.paths import check_local

OPTIONS = (
    Option("workdir", TEXT, ""),
    Option("format", TEXT, ""),
    Option("output", TEXT, ""),
    Option("calibrated", SWITCH, False),
    Option("views", SWITCH, False),
    Option("checkpoint", TEXT, ""),
)
MISSING = {
    "workdir": "give the folder of the run",
    "format": "give stablehlo, onnx or hub",
    "output": "give the file or folder to write",
}


def run(call: Call) -> None:
    """Export a run, and print a summary.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags

    values = flags.parse(call.arguments, OPTIONS).values
    for name, way_out in MISSING.items():
        if not values[name]:
            raise UserError(f"--{name} is missing: {way_out}")
    for name in ("workdir", "output"):
        check_local(f"--{name}", values[name])
    from hybrid_jax.export.export import export_run

    with on_device():
        lines = export_run(**values)
    print(escape("\n".join(lines)))


COMMAND = Command(__doc__.strip(), run, "nothing was written")
