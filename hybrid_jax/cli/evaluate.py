"""Evaluate the newest checkpoint of a run on its test split.

  hybrid-jax evaluate --workdir=runs/digits
  hybrid-jax evaluate --workdir=runs/cells --config.data.path=/elsewhere/cells

Prints loss, accuracy and top-5 accuracy. Takes the config that the run was
trained with, and writes nothing to its folder. Only fields that change no
result can be changed, such as where the data are.

  --workdir=DIR          folder of the run [runs/FILE or runs/FILE-MODEL]
  --config.FIELD=VALUE   changes a field; `hybrid-jax fields` lists them
  --config=FILE[:MODEL]  experiment; refuses a run of another one
  --flagfile=FILE        reads more flags from a file, one on each line
"""

import typing

from hybrid_jax.cli.common import Call, Command, memory_told
from hybrid_jax.cli.options import TEXT, Option
from hybrid_jax.errors import OtherRun, UserError

if typing.TYPE_CHECKING:
    from ml_collections import ConfigDict

OPTIONS = (Option("workdir", TEXT),)


class Order(typing.NamedTuple):
    """What a command line asks for.

    Attributes:
      config: of the experiment; None takes that of the run in the workdir.
      changed: fields of that stored config to change, by name.
      workdir: folder of the run.
      chosen: whether the user left the workdir out.
    """

    config: "ConfigDict | None"
    changed: dict[str, typing.Any]
    workdir: str
    chosen: bool


def run(call: Call) -> None:
    """Evaluates what a command line asks for.

    Raises:
      UserError: something that the user can mend.
    """
    # Imported where they are needed: help is instant, and mistakes precede jax.
    order = parse(call.arguments)
    from hybrid_jax.evaluate import evaluate

    if order.chosen:
        print(f"No --workdir given: using {order.workdir}", flush=True)
    with memory_told():
        try:
            evaluate(order.config, order.workdir, order.changed)
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
    given, changed = parsed.values["workdir"], parsed.changed
    workdir = workdirs.choose(given, parsed.values["config"])
    if parsed.config is not None:
        flags.needed_config(parsed)
        changed = {}
    return Order(parsed.config, changed, workdir, given is None)


COMMAND = Command(__doc__.strip(), run, "nothing was written", huge_pages=True)
