"""Evaluate a run, on its own test split or on other images.

  hybrid-jax evaluate --workdir=runs/digits
  hybrid-jax evaluate --workdir=runs/cells --data=new_cells
  hybrid-jax evaluate --workdir=runs/cells --config.data.path=/elsewhere/cells

Prints loss, accuracy and top-5 accuracy, and writes nothing to the run's
folder. Other images lie in a folder for each class, or are named in a table.
They need nothing of what the run was trained on.

  --workdir=DIR          folder of the run [runs/FILE or runs/FILE-MODEL]
  --checkpoint=WHICH     best on validation, last, or a step [the one tested]
  --split=NAME           train, validation or test [test]
  --data=DIR             folder or table (.csv) of other images
  --on-error=skip        leaves out and counts those that cannot be read [stop]
  --config.FIELD=VALUE   changes a field; `hybrid-jax fields` lists them
  --config=FILE[:MODEL]  experiment; refuses a run of another one
  --flagfile=FILE        reads more flags from a file, one on each line
"""

import typing

from hybrid_jax.cli.common import Call, Command, memory_told
from hybrid_jax.cli.options import TEXT, Option, one_of
from hybrid_jax.errors import OtherRun, UserError
from hybrid_jax.paths import check_local

if typing.TYPE_CHECKING:
    from hybrid_jax.config.schema import Config

OPTIONS = (
    Option("workdir", TEXT),
    Option("checkpoint", TEXT, ""),
    Option("split", one_of("train", "validation", "test"), ""),
    Option("data", TEXT, ""),
    Option("on-error", one_of("stop", "skip"), "stop"),
)


class Order(typing.NamedTuple):
    """What a command line asks for.

    Attributes:
      config: of the experiment; None takes that of the run in the workdir.
      changed: fields of that stored config to change, by name.
      workdir: folder of the run.
      chosen: whether the user left the workdir out.
      checkpoint, split, images, on_error: arguments of `engine.evaluate.evaluate`.
    """

    config: "Config | None"
    changed: dict[str, typing.Any]
    workdir: str
    chosen: bool
    checkpoint: str
    split: str
    images: str
    on_error: str


def run(call: Call) -> None:
    """Evaluates what a command line asks for.

    Raises:
      UserError: something that the user can mend.
    """
    # Imported where they are needed: help is instant, and mistakes precede jax.
    order = parse(call.arguments)
    from hybrid_jax.engine.evaluate import evaluate

    if order.chosen:
        print(f"No --workdir given: using {order.workdir}", flush=True)
    with memory_told():
        try:
            evaluate(
                order.workdir,
                order.config,
                order.changed,
                order.checkpoint,
                order.split,
                order.images,
                order.on_error,
            )
        except OtherRun as error:
            line = call.line("evaluate", f"--workdir={order.workdir}")
            raise UserError(f"{error.what}. Evaluate that run with `{line}`") from None


def parse(arguments: list[str]) -> Order:
    """Parses a command line.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """
    from hybrid_jax.cli import flags, workdirs

    parsed = flags.parse(arguments, OPTIONS)
    values, changed = parsed.values, parsed.changed
    workdir = workdirs.choose(values["workdir"], values["config"])
    check_local("--data", values["data"])
    config = None
    if parsed.config is not None:
        config, changed = flags.needed_config(parsed), {}
    return Order(
        config=config,
        changed=changed,
        workdir=workdir,
        chosen=values["workdir"] is None,
        checkpoint=values["checkpoint"],
        split=values["split"],
        images=values["data"],
        on_error=values["on-error"],
    )


COMMAND = Command(__doc__.strip(), run, "nothing was written", huge_pages=True)
