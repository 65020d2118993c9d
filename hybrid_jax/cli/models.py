"""List the models, or show what one is made of.

  hybrid-jax models
  hybrid-jax models coatnet
  hybrid-jax models astroformer_3 --image-size=32 --num-classes=10

The first lists all models, the second those with this text in their names
(patterns such as 'coatnet_*_rw' work too). The third shows the parts of one
model, with their parameters and multiply-accumulates (MACs).

  --image-size=SIZE  224, or 192x256 (height x width), for example [224]
  --num-classes=N    number of classes [1000]
  --parameters       lists every parameter of the model
  --markdown         prints the tables of the README, in half a minute
  --write=FILE       writes them into a file, between its two marks
  --flagfile=FILE    reads more flags from a file, one on each line

Train a model with --config=FILE:MODEL.
"""

from pathlib import Path

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import IMAGE_SIZE, SWITCH, TEXT, Option, whole
from hybrid_jax.errors import UserError, closest
from hybrid_jax.models.registry import MODELS, list_models

OPTIONS = (
    Option("image-size", IMAGE_SIZE),
    Option("num-classes", whole(1)),
    Option("parameters", SWITCH, False),
    Option("markdown", SWITCH, False),
    Option("write", TEXT),
)
# What is asked of one model, with the arguments of `create_model`.
ABOUT_ONE = {
    "image-size": "image_size",
    "num-classes": "num_classes",
    "parameters": "",
}


def run(call: Call) -> None:
    """Prints what a command line asks for.

    Raises:
      UserError: something that the user can mend.
    """
    # Imported where it is needed: help is instant.
    from hybrid_jax.cli.flags import parse_plain

    parsed = parse_plain(call.arguments, OPTIONS, places=1)
    print(answer("".join(parsed.others), parsed.values), flush=True)


def answer(name: str, values: dict) -> str:
    """Returns what the command prints.

    Args:
      name: of a model, or a pattern; may be empty.
      values: of `OPTIONS`, by name.

    Raises:
      UserError: no such model, none of that size, or flags that do not go together.
    """
    from hybrid_jax.models import catalog

    write, markdown = values["write"], values["markdown"]
    about_one = [f"--{key}" for key in ABOUT_ONE if values[key] not in (None, False)]
    if write is not None or markdown:
        flag = "--write" if write is not None else "--markdown"
        if name or about_one:
            what = about_one[0] if about_one else "the name"
            raise UserError(f"{flag} is for the tables of all models: leave out {what}")
        return catalog.tables() if write is None else catalog.write(Path(write))
    if name in MODELS:
        return _describe(name, values)
    if not about_one and (found := _matching(name)):
        more = "`hybrid-jax models NAME` shows what one is made of."
        return f"{catalog.listing(found)}\n\n{more}"
    if about_one and not name:
        raise UserError("the name of a model is missing, such as astroformer_3")
    raise UserError(f"no model is called {name!r}{closest(name, MODELS)}")


def _matching(pattern: str) -> list[str]:
    """Returns the models that match a shell pattern, or that a text is a part of."""
    return list_models(pattern) or list_models(f"*{pattern}*")


def _describe(name: str, values: dict) -> str:
    """Returns the summary of a model.

    Raises:
      UserError: there is none of that size.
    """
    from hybrid_jax.models import create_model
    from hybrid_jax.models.summary import summary

    sizes = {
        argument: values[key]
        for key, argument in ABOUT_ONE.items()
        if argument and values[key] is not None
    }
    try:
        model = create_model(name, **sizes)
    except ValueError as error:
        raise UserError(str(error)) from None
    return summary(model, parameters=values["parameters"])


COMMAND = Command(__doc__.strip(), run, "nothing was written")
