"""List the models, or show the parts of one.

  hybrid-jax models
  hybrid-jax models coatnet
  hybrid-jax models astroformer_3 --image-size=32 --num-classes=10

The first lists all models, the second the models with this text in their names
(patterns such as 'coatnet_*_rw' work too). The third shows the parts of one
model, with their parameters and multiply-accumulates (MACs).

  --image-size=SIZE  such as 224, or 192x256 (height x width) [224]
  --num-classes=N    number of classes [1000]
  --parameters       list every parameter of the model
  --markdown         print the tables of docs/reference/models.md (takes 30 s)
  --write=FILE       write these tables into a file, between its two marks
  --flagfile=FILE    read more flags from a file, one on each line

Train a model with --config=FILE:MODEL.
Exit code: 0, or 2 for an error that you can fix.
"""

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import IMAGE_SIZE, SWITCH, TEXT, Option, integer
from hybrid_jax.errors import UserError
from hybrid_jax.models.registry import MODELS, list_models, unknown_model
from hybrid_jax.paths import expand_user

OPTIONS = (
    Option("image-size", IMAGE_SIZE),
    Option("num-classes", integer(1)),
    Option("parameters", SWITCH, False),
    Option("markdown", SWITCH, False),
    Option("write", TEXT),
)
# Flags for one model; the first two are arguments of `create_model`.
ABOUT_ONE = ("image-size", "num-classes", "parameters")


def run(call: Call) -> None:
    """Print what a command line asks for.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant.
    from hybrid_jax.cli.flags import parse

    parsed = parse(call.arguments, OPTIONS, most=1)
    print(answer("".join(parsed.positional), parsed.values), flush=True)


def answer(name: str, values: dict) -> str:
    """Return what the command prints.

    Args:
      name: of a model, or a pattern; may be empty.
      values: values of the flags, by name.

    Raises:
      UserError: there is no such model, it does not take that size, or flags exclude
        each other.
    """
    from hybrid_jax.models import catalog

    write, markdown = values["write"], values["markdown"]
    about_one = [f"--{key}" for key in ABOUT_ONE if values[key] not in (None, False)]
    if write is not None or markdown:
        flag = "--write" if write is not None else "--markdown"
        if name or about_one:
            what = about_one[0] if about_one else "the name"
            raise UserError(f"{flag} is for the tables of all models: leave out {what}")
        return catalog.tables() if write is None else catalog.write(expand_user(write))
    if name in MODELS:
        return _summary(name, values)
    found = list_models(name) or list_models(f"*{name}*")
    if found and not about_one:
        hint = "`hybrid-jax models NAME` shows the parts of one."
        return f"{catalog.listing(found)}\n\n{hint}"
    if about_one and not name:
        raise UserError(
            "the name of a model is missing: give one, such as astroformer_3"
        )
    raise UserError(unknown_model(name))


def _summary(name: str, values: dict) -> str:
    """Return the table of a model's parts.

    Raises:
      UserError: the model does not take images of that size.
    """
    from hybrid_jax.models import create_model
    from hybrid_jax.models.summary import summary

    sizes = {
        key.replace("-", "_"): values[key]
        for key in ABOUT_ONE[:2]
        if values[key] is not None
    }
    try:
        model = create_model(name, **sizes)
    except ValueError as error:
        raise UserError(str(error)) from None
    return summary(model, parameters=values["parameters"])


COMMAND = Command(__doc__.strip(), run, "nothing was written")
