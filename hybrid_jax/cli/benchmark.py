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

from hybrid_jax.cli.common import Call, Command
from hybrid_jax.cli.options import TEXT, Option, number
from hybrid_jax.cli.outputs import check_output, write_output
from hybrid_jax.errors import report_out_of_memory
from hybrid_jax.paths import check_local

OPTIONS = (
    Option("seconds", number(1e-3, 3600), 10.0),
    Option("json", TEXT, ""),
    Option("profile", TEXT, ""),
)


def run(call: Call) -> None:
    """Measure the speed of an experiment, and print it.

    Raises:
      UserError: something that the user can fix.
    """
    # Imported here, so that help is instant and mistakes are found before jax loads.
    from hybrid_jax.cli import flags

    parsed = flags.parse(call.arguments, OPTIONS, takes_config=True)
    config, values = flags.required_config(parsed), parsed.values
    target, profile = values["json"], values["profile"]
    check_output("--json", target)
    check_local("--profile", profile)
    from rich.console import Console

    from hybrid_jax.profiling.measure import measure_experiment
    from hybrid_jax.profiling.report import print_report

    # The numbers alone go to the standard output if that is their target.
    console = Console(highlight=False, stderr=target == "-")
    with report_out_of_memory(), console.status("loading data") as status:
        numbers = measure_experiment(config, values["seconds"], profile, status.update)
    print_report(console, numbers)
    write_output(target, json.dumps(numbers, indent=1) + "\n")


COMMAND = Command(__doc__.strip(), run, "nothing was measured", huge_pages=True)
