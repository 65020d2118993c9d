r"""Measure how fast an experiment trains and evaluates on this machine.

  hybrid-jax benchmark --config=digits
  hybrid-jax benchmark --config=cifar10:coatnet_0 \
      --config.train.batch_size=256 --json=speed.json --profile=profiles/c0

Loads the data, compiles and runs steps as training does. Prints images per
second, model FLOPs utilization (MFU), memory, and the time to the first step.
Writes only the files that you ask for.

  --config=FILE[:MODEL]  experiment, and a model to replace the file's own
  --config.FIELD=VALUE   change a field; `hybrid-jax fields` lists them
  --seconds=S            how long to train, without compilation [10]
  --json=FILE            write the numbers to a file; - is standard output
  --profile=DIR          trace some steps, and print what takes most time;
                         open it in TensorBoard or at ui.perfetto.dev
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

import json
import typing
from pathlib import Path

from hybrid_jax.cli.common import Call, Command, report_out_of_memory
from hybrid_jax.cli.options import TEXT, Option, number
from hybrid_jax.errors import UserError
from hybrid_jax.paths import check_local

if typing.TYPE_CHECKING:
    from hybrid_jax.config.schema import Config

SECONDS = 10.0
OPTIONS = (
    Option("seconds", number(1e-3, 3600), SECONDS),
    Option("json", TEXT, ""),
    Option("profile", TEXT, ""),
)


def run(call: Call) -> None:
    """Measure what a command line asks for.

    Raises:
      UserError: something that the user can fix.
    """
    benchmark(*parse(call.arguments))


def parse(arguments: list[str]) -> "tuple[Config, float, str, str]":
    """Parse a command line.

    Returns:
      The arguments of `benchmark`.

    Raises:
      UserError: a flag, a value or a config file is wrong.
    """
    from hybrid_jax.cli import flags

    parsed = flags.parse(arguments, OPTIONS, takes_config=True)
    config, values = flags.required_config(parsed), parsed.values
    check_local("--json", values["json"])
    check_local("--profile", values["profile"])
    if not Path(values["json"]).expanduser().parent.is_dir():
        raise UserError(
            f"--json={values['json']} lies in a folder that does not exist: make it"
        )
    return config, values["seconds"], values["json"], values["profile"]


def benchmark(
    config: "Config", seconds: float = SECONDS, to: str = "", profile: str = ""
) -> dict[str, typing.Any]:
    """Measure the speed of an experiment and print it.

    Args:
      config: of the experiment.
      seconds: time to train, and at most to evaluate, once both are compiled.
      to: file for the numbers as JSON, or empty. `-` is the standard output; the tables
        then go to the standard error.
      profile: folder for a trace of some steps, or empty.

    Returns:
      The numbers, as in the JSON.

    Raises:
      UserError: something that the user can fix.
    """
    from rich.console import Console

    from hybrid_jax.profiling.measure import measure_experiment
    from hybrid_jax.profiling.report import print_report

    console = Console(highlight=False, stderr=to == "-")
    with report_out_of_memory(), console.status("loading data") as status:
        numbers = measure_experiment(config, seconds, profile, status.update)
    print_report(console, numbers)
    if to:
        text = json.dumps(numbers, indent=1) + "\n"
        if to == "-":
            print(text, end="", flush=True)
        else:
            Path(to).expanduser().write_text(text, encoding="utf-8")
    return numbers


COMMAND = Command(__doc__.strip(), run, "nothing was measured", huge_pages=True)
