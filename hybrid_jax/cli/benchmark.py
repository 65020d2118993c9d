r"""Measure how fast an experiment trains, or what bounds it on another chip.

  hybrid-jax benchmark --config=digits
  hybrid-jax benchmark --config=cifar10:coatnet_0 \
      --config.train.batch_size=256 --json=speed.json --target=v5e

Loads the data, and compiles and runs steps as training does. Prints images per
second, model FLOPs utilization (MFU), memory, and the time to the first step.
With --target, only compiles for that chip, which need not be here. Prints the
bytes moved, memory, the largest batch, and a bound on the speed.

  --config=FILE[:MODEL]  experiment, and a model to replace the file's own
  --config.FIELD=VALUE   change a field; `hybrid-jax fields` lists them
  --seconds=S            how long to train, without compilation [10]
  --json=FILE            write the numbers to a new file; - is standard output
  --profile=DIR          trace some steps, and print what takes most time;
                         open DIR in TensorBoard or at ui.perfetto.dev
  --target=CHIP[:CHIPS]  v5e, v5p, v6e, a100, h100 or h200; several chips as
                         v5e:4x4 or h100:8
  --flagfile=FILE        read more flags from a file, one on each line

Exit code: 0, or 2 for an error that you can fix.
"""

import json
import os
import typing

from hybrid_jax.chips.topology import Target, parse_target, prepare_process
from hybrid_jax.cli.common import XLA_FLAGS, Call, Command
from hybrid_jax.cli.options import TEXT, Option, number
from hybrid_jax.cli.outputs import check_output, check_output_folder, write_output
from hybrid_jax.errors import UserError, report_out_of_memory

if typing.TYPE_CHECKING:
    from rich.console import Console

    from hybrid_jax.config.schema import Config

OPTIONS = (
    Option("seconds", number(1e-3, 3600), 10.0),
    Option("json", TEXT, ""),
    Option("profile", TEXT, ""),
    Option("target", TEXT, ""),
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
    file, profile = values["json"], values["profile"]
    target = parse_target(values["target"]) if values["target"] else None
    if target and profile:
        raise UserError(
            f"--profile runs steps, and --target={target} only compiles them: leave "
            "one of them out"
        )
    check_output("--json", file)
    check_output_folder("--profile", profile)
    from hybrid_jax.console import Screen

    # With --json=-, standard output must hold nothing but the JSON.
    console = Screen(stderr=file == "-")
    if target is not None:
        numbers = _compile_for(console, config, target)
    else:
        numbers = _measure(console, config, values["seconds"], profile)
    write_output(file, json.dumps(numbers, indent=1) + "\n")


def _measure(
    console: "Console", config: "Config", seconds: float, profile: str
) -> dict:
    from hybrid_jax.console import busy
    from hybrid_jax.profiling.measure import measure_experiment
    from hybrid_jax.profiling.report import print_report

    with report_out_of_memory(), busy(console, "loading data") as say:
        numbers = measure_experiment(config, seconds, profile, say)
    print_report(console, numbers)
    return numbers


def _compile_for(console: "Console", config: "Config", target: Target) -> dict:
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = flags.replace(XLA_FLAGS, "").strip()  # ours, for CPUs
    prepare_process(target)
    from hybrid_jax.chips.measure import measure_target
    from hybrid_jax.chips.report import print_report
    from hybrid_jax.console import busy

    with busy(console, "loading data") as say:
        numbers = measure_target(config, target, say)
    print_report(console, numbers)
    return numbers


COMMAND = Command(__doc__.strip(), run, "nothing was measured", computes=True)
