"""Convert weights to and from PyTorch's timm.

  hybrid-jax convert runs/cifar10 for_timm.safetensors
  hybrid-jax convert theirs.pth ours.safetensors --model=coatnet_0_rw

The first argument is a .safetensors or .pth file, or the folder of a run. The
second is the .safetensors file to write. Weights of this project become timm's.
Weights of timm, and of the released Astroformer, become this project's.

  --checkpoint=WHICH  of a run: best on validation, last, or a step [the tested]
  --model=NAME        model of the weights, which files of timm do not name;
                      `hybrid-jax models` lists the names
  --image-size=SIZE   size of images that the converted model is for, such as
                      224 or 192x256 (height x width) [that of the source]
  --to=NAMES          whose names to write, timm or hybrid_jax [the other's]
  --flagfile=FILE     read more flags from a file, one on each line

Train from either kind of file with --config.init_from=FILE.
Exit code: 0, or 2 for an error that you can fix.
"""

import typing

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import IMAGE_SIZE, TEXT, Option, one_of
from hybrid_jax.errors import UserError, shown

POSITIONAL = ("source", "target")
OPTIONS = (
    Option("checkpoint", TEXT, ""),
    Option("model", TEXT),
    Option("image-size", IMAGE_SIZE),
    Option("to", one_of("timm", "hybrid_jax")),
)


def run(call: Call) -> None:
    """Convert what a command line asks for, and print what was done.

    Raises:
      UserError: something that the user can fix.
    """
    arguments = parse(call.arguments)
    from hybrid_jax.engine.convert_weights import convert_weights

    print(shown("\n".join(convert_weights(**arguments))))


def parse(arguments: list[str]) -> dict[str, typing.Any]:
    """Parse a command line; return the arguments of `weights.convert.convert`.

    Raises:
      UserError: a flag, a value or the number of arguments is wrong.
    """
    from hybrid_jax.cli import flags

    parsed = flags.parse(arguments, OPTIONS, most=len(POSITIONAL))
    files, values = parsed.positional, parsed.values
    if len(files) < len(POSITIONAL):
        raise UserError(f"the {POSITIONAL[len(files)]} is missing (see --help)")
    return {
        "source": files[0],
        "target": files[1],
        "name": values["model"],
        "image_size": values["image-size"],
        "to": values["to"],
        "checkpoint": values["checkpoint"],
    }


COMMAND = Command(__doc__.strip(), run, "nothing was written")
