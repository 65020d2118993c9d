"""Measure how fast an experiment trains and evaluates on this machine.

  hybrid-jax benchmark --config=configs/digits.py
  hybrid-jax benchmark --config=configs/cifar10.py:coatnet_0 \\
      --config.train.batch_size=256 --json=speed.json --profile=profiles/c0

Loads the data, compiles and runs steps as training does. Prints images per
second, the share of the device's peak that they reach, memory, and the time to
the first step. Writes no files but those that you ask for.

  --config=FILE[:MODEL]  experiment, and a model to replace the file's own
  --config.FIELD=VALUE   changes a field; `hybrid-jax fields` lists them
  --seconds=S            how long to train, without compilation [10]
  --json=FILE            writes the numbers to a file; - is standard output
  --profile=DIR          traces some steps, and prints what takes most time;
                         open it in TensorBoard or at ui.perfetto.dev
  --flagfile=FILE        reads more flags from a file, one on each line
"""

import json
import typing
from pathlib import Path

from hybrid_jax.cli.common import Call, Command, memory_told
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
    """Measures what a command line asks for.

    Raises:
      UserError: something that the user can mend.
    """
    benchmark(*parse(call.arguments))


def parse(arguments: list[str]) -> "tuple[Config, float, str, str]":
    """Parses a command line.

    Returns:
      Config, seconds, and where JSON and profile go; those two may be empty.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """
    from hybrid_jax.cli import flags

    parsed = flags.parse(arguments, OPTIONS)
    config, values = flags.needed_config(parsed), parsed.values
    check_local("--json", values["json"])
    check_local("--profile", values["profile"])
    # Before anything is measured in vain.
    if not Path(values["json"]).expanduser().parent.is_dir():
        raise UserError(f"--json={values['json']} lies in a folder that does not exist")
    return config, values["seconds"], values["json"], values["profile"]


def benchmark(
    config: "Config", seconds: float = SECONDS, to: str = "", profile: str = ""
) -> dict:
    """Measures a config's experiment and prints what comes out.

    Args:
      config: of the experiment, validated.
      seconds: of training, and at most of evaluation, once both are compiled.
      to: a file for the numbers as JSON; `-` is the standard output, where tables then
        give way to the standard error.
      profile: a folder for a trace of some steps; empty traces none.

    Returns:
      The numbers, as in the JSON.

    Raises:
      UserError: something that the user can mend.
    """
    from rich.console import Console

    from hybrid_jax.profiling.measure import measure_experiment
    from hybrid_jax.profiling.report import print_report

    console = Console(highlight=False, stderr=to == "-")
    with memory_told(), console.status("loading data") as status:
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
