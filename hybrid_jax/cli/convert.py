"""Convert weights to and from PyTorch's timm.

  hybrid-jax convert runs/cifar10 for_timm.safetensors
  hybrid-jax convert theirs.pth ours.safetensors --model=coatnet_0_rw

The first argument is a .safetensors or .pth file, or the folder of a run. The
second is the .safetensors file to write. Weights of this project become timm's.
Weights of timm, and of the released Astroformer, become this project's.

  --checkpoint=WHICH  best, last, a step, all, or A,B: their mean [the tested]
  --model=NAME        model of the weights, which files of timm do not name;
                      `hybrid-jax models` lists the names
  --image-size=SIZE   size of images that the converted model is for, such as
                      224 or 192x256 (height x width) [that of the source]
  --to=NAMES          whose names to write, timm or hybrid_jax [the other's]
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
    """Convert weights, and print what was done.

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
    from hybrid_jax.engine.convert_weights import convert_weights

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
