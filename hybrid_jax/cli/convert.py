"""Convert weights to and from PyTorch's timm.

  hybrid-jax convert runs/cifar10 for_timm.safetensors
  hybrid-jax convert theirs.pth ours.safetensors --model=coatnet_0_rw

The first argument is a .safetensors or .pth file, or the folder of a run. The
second is the .safetensors file to write, which must not exist. Weights of this
project are converted to timm's names. Weights of timm, and of the released
Astroformer, are converted to this project's names.

  --checkpoint=WHICH  best, last, a step; all or A,B takes the mean [tested]
  --model=NAME        name of the model, for files of timm, which lack it;
                      `hybrid-jax models` lists the names
  --image-size=SIZE   image size of the converted model, such as 224 or
                      192x256 (height x width) [that of the source]
  --to=NAMES          names to write: those of timm or hybrid_jax [the other]
  --flagfile=FILE     read more flags from a file, one on each line

Train from either kind of file with --config.init_from=FILE.
Exit code: 0, or 2 for an error that you can fix.
"""

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import IMAGE_SIZE, TEXT, Option, one_of
from hybrid_jax.errors import UserError, escape

OPTIONS = (
    Option("checkpoint", TEXT, ""),
    Option("model", TEXT),
    Option("image-size", IMAGE_SIZE),
    Option("to", one_of("timm", "hybrid_jax")),
)


def run(call: Call) -> None:
    """Convert weights, and print a summary.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags

    parsed = flags.parse(call.arguments, OPTIONS, most=2)
    files, values = parsed.positional, parsed.values
    if len(files) < 2:
        missing = "target" if files else "source"
        raise UserError(f"the {missing} is missing: give source and target")
    from hybrid_jax.runs.convert_weights import convert_weights

    lines = convert_weights(
        source=files[0],
        target=files[1],
        name=values["model"],
        image_size=values["image-size"],
        to=values["to"],
        checkpoint=values["checkpoint"],
    )
    print(escape("\n".join(lines)))


COMMAND = Command(__doc__.strip(), run, "nothing was written")
