"""Measures how fast an experiment trains and evaluates here, on its own data.

  python -m hybrid_jax.benchmark --config=configs/digits.py
  python -m hybrid_jax.benchmark --config=configs/cifar10.py:coatnet_0 \\
      --config.train.batch_size=256 --json=speed.json --profile=profiles/coatnet_0

It loads data, compiles and dispatches steps as a run does, prints images a second, the
share of the device's peak that they reach, memory and the time to the first step, and
leaves nothing behind but what is asked for. A profile says which operations the time
goes to, and opens in TensorBoard (with its profile plugin) and at ui.perfetto.dev.
"""

import json
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from hybrid_jax import config as configs
from hybrid_jax.command import guarded, memory_told, restart_with_huge_pages
from hybrid_jax.errors import UserError
from hybrid_jax.flags import asks_for_help, parse
from hybrid_jax.paths import check_local

SECONDS = 10.0


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code, 2 for what the user can mend."""
    if argv is None:
        restart_with_huge_pages()
        argv = sys.argv
    if asks_for_help(argv):
        return guarded(lambda: print(usage(), flush=True))

    def run() -> None:
        benchmark(*read_flags(argv))

    return guarded(run, again="nothing was measured")


def read_flags(argv: list[str]) -> tuple[ConfigDict, float, str, str]:
    """Config, seconds, and where JSON and profile go, which may be empty.

    Raises:
      UserError: a flag, a value or a config file that is not right.
    """

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_float(
            "seconds", SECONDS, "how long to train", 1e-3, 3600, flag_values=values
        )
        flags.DEFINE_string("json", "", "file for numbers", flag_values=values)
        flags.DEFINE_string("profile", "", "folder for a trace", flag_values=values)

    values, config = parse(argv, define)
    if config is None:
        raise UserError("--config is missing: give one, such as configs/digits.py")
    configs.validate(config)
    check_local("--json", values.json)
    check_local("--profile", values.profile)
    # Told before anything is measured in vain.
    if not Path(values.json).expanduser().parent.is_dir():
        raise UserError(f"--json={values.json} lies in a folder that does not exist")
    return config, values.seconds, values.json, values.profile


def benchmark(
    config: ConfigDict, seconds: float = SECONDS, to: str = "", profile: str = ""
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
    # Imported here, so that a mistake in the flags is told before jax is loaded.
    from hybrid_jax.benchmark import report
    from hybrid_jax.benchmark.measure import measure

    console = Console(highlight=False, stderr=to == "-")
    with memory_told(), console.status("loading data") as status:
        numbers = measure(config, seconds, profile, status.update)
    report.show(console, numbers)
    if to:
        text = json.dumps(numbers, indent=1) + "\n"
        if to == "-":
            print(text, end="", flush=True)
        else:
            Path(to).expanduser().write_text(text, encoding="utf-8")
    return numbers


def usage() -> str:
    """What `--help` prints: the command, and every field of a config."""
    return (
        f"{__doc__}\n"
        "  --config=FILE[:MODEL]  the experiment, a file of configs/\n"
        f"  --seconds={SECONDS:<12g} how long to train, once it is compiled\n"
        "  --json=FILE            writes the numbers there; - is the standard output\n"
        "  --profile=DIR          writes a trace there, and shows what costs most\n\n"
        f"Fields of a config, with [defaults]:\n{configs.describe()}"
    )


if __name__ == "__main__":
    sys.exit(main())
